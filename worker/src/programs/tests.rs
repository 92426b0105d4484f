use super::*;

/// A directory of this test's own, removed in the end.
struct Place(PathBuf);

impl Place {
    fn new() -> Place {
        let name = format!("manyhands-programs-{}", uuid::Uuid::now_v7());
        Place(std::env::temp_dir().join(name))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// This program, made another one by some bytes behind its end.
fn variant(number: u8) -> (Vec<u8>, u128) {
    let mut bytes = fs::read("/proc/self/exe").unwrap();
    bytes.extend([number; 10]);
    let hash = manyhands_transport::machine::program_hash_of(&bytes);
    (bytes, hash)
}

fn bring(programs: &Programs, bytes: &[u8], hash: u128) -> Result<Vec<u128>, Refusal> {
    let coming = programs.begin().unwrap();
    let half = bytes.len() / 2;
    coming.write_at(half as u64, &bytes[half..]).unwrap();
    coming.write_at(0, &bytes[..half]).unwrap();
    assert_eq!(coming.read_at(0, 4).unwrap(), bytes[..4]);
    programs.keep(&coming, hash)
}

fn files(place: &Place) -> usize {
    fs::read_dir(&place.0).unwrap().count()
}

#[test]
fn a_program_is_kept_under_its_hash_and_found_again() {
    let place = Place::new();
    let (bytes, hash) = variant(1);
    {
        let programs = Programs::open(place.0.clone(), u64::MAX).unwrap();
        assert_eq!((programs.path(hash), programs.bytes(hash)), (None, None));
        assert_eq!(bring(&programs, &bytes, hash), Ok(vec![]));
        assert_eq!(programs.bytes(hash).unwrap(), bytes);
        let unfinished = programs.begin().unwrap();
        std::mem::forget(unfinished);
        assert_eq!(files(&place), 2);
    }
    let programs = Programs::open(place.0.clone(), u64::MAX).unwrap();
    assert_eq!(programs.all(), [hash]);
    assert_eq!(files(&place), 1, "what never came whole is gone");
    let path = programs.path(hash).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, MODE);
    assert_eq!(fs::read(path).unwrap(), bytes);
}

#[test]
fn a_program_that_was_damaged_between_two_starts_is_not_used() {
    let place = Place::new();
    let (bytes, hash) = variant(1);
    let programs = Programs::open(place.0.clone(), u64::MAX).unwrap();
    assert_eq!(bring(&programs, &bytes, hash), Ok(vec![]));
    let path = programs.path(hash).unwrap();
    drop(programs);
    fs::set_permissions(&path, Permissions::from_mode(0o700)).unwrap();
    File::options().write(true).open(&path).unwrap().set_len(4096).unwrap();
    let programs = Programs::open(place.0.clone(), u64::MAX).unwrap();
    assert_eq!((programs.path(hash), programs.all(), files(&place)), (None, vec![], 0));
    assert_eq!(bring(&programs, &bytes, hash), Ok(vec![]), "it comes again");
    assert_eq!(programs.path(hash), Some(path));
}

#[test]
fn what_is_not_what_it_was_said_to_be_is_not_kept() {
    let place = Place::new();
    let programs = Programs::open(place.0.clone(), u64::MAX).unwrap();
    let (bytes, hash) = variant(1);
    assert!(matches!(bring(&programs, &bytes, hash + 1), Err(Refusal::NotKept(_))));
    let text = b"#!/bin/sh\necho no\n";
    let hash = manyhands_transport::machine::program_hash_of(text);
    let refusal = bring(&programs, text, hash).unwrap_err();
    let Refusal::Unusable(words) = refusal else { panic!("{refusal:?}") };
    assert!(words.contains("no ELF header") && words.contains(&format!("{hash:032x}")), "{words}");
    assert_eq!((programs.all(), files(&place)), (vec![], 0));
}

#[test]
fn an_archive_need_not_be_a_program() {
    let place = Place::new();
    let programs = Programs::open(place.0.clone(), u64::MAX).unwrap();
    let archive = b"PK\x05\x06 and so on";
    let hash = manyhands_transport::machine::program_hash_of(archive);
    assert_eq!(bring(&programs, archive, hash), Ok(vec![]));
    assert_eq!(fs::read(programs.path(hash).unwrap()).unwrap(), archive);
}

#[test]
fn the_longest_unused_make_room() {
    let place = Place::new();
    let variants = [1, 2, 3].map(variant);
    let size = variants[0].0.len() as u64;
    let programs = Programs::open(place.0.clone(), 2 * size).unwrap();
    for (bytes, hash) in &variants[..2] {
        assert_eq!(bring(&programs, bytes, *hash), Ok(vec![]));
    }
    let running = programs.bytes(variants[1].1).unwrap();
    assert!(programs.path(variants[0].1).is_some(), "it is used now");
    assert_eq!(bring(&programs, &variants[2].0, variants[2].1), Ok(vec![variants[1].1]));
    assert_eq!(running, variants[1].0, "whoever has it keeps it");
    assert_eq!(files(&place), 2);
    let coming = programs.begin().unwrap();
    assert!(coming.write_at(2 * size, b"x").is_err(), "more than there ever is room for");
}

#[test]
fn two_workers_never_share_a_directory() {
    let place = Place::new();
    let (first, lock) = own_directory(&place.0).unwrap();
    let (second, _other) = own_directory(&place.0).unwrap();
    assert_ne!(first, second);
    drop(lock);
    let (again, _lock) = own_directory(&place.0).unwrap();
    assert_eq!(again, first);
}
