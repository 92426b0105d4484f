//! Whether a program can run on this machine, as far as its headers tell.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Bytes of the header of a 64-bit ELF file, and of an entry of its program table.
const HEADER: usize = 64;
const ENTRY: usize = 56;
/// Entries of the program table that are looked at, and bytes of an interpreter's path.
const ENTRIES_LIMIT: u16 = 256;
const PATH_LIMIT: u64 = 4096;

const TYPE_EXECUTABLE: u16 = 2;
const TYPE_POSITION_INDEPENDENT: u16 = 3;
const PROGRAM_INTERPRETER: u32 = 3;

/// What the beginning of an ELF file says.
#[derive(Debug, PartialEq, Eq)]
struct Header {
    class: u8,
    data: u8,
    kind: u16,
    machine: u16,
    table: u64,
    entry: u16,
    entries: u16,
}

/// Why a program can never run here, and what to do about it; `Ok` if nothing speaks against it.
pub(crate) fn check(program: &File) -> Result<(), String> {
    let header = read(program).map_err(|error| format!("it cannot be read: {error}"))?;
    let Some(theirs) = header else {
        return Err("it is no program: it has no ELF header".to_owned());
    };
    let own = File::open("/proc/self/exe").and_then(|own| read(&own)).ok().flatten();
    if let Some(own) = own
        && (own.class, own.data, own.machine) != (theirs.class, theirs.data, theirs.machine)
    {
        return Err(format!(
            "it was built for {} and this machine runs {}: build it for {}, or give its tasks a \
             label of workers that can run it",
            architecture(&theirs),
            architecture(&own),
            architecture(&own)
        ));
    }
    if !matches!(theirs.kind, TYPE_EXECUTABLE | TYPE_POSITION_INDEPENDENT) {
        return Err("it is an object file or a core dump, and no program".to_owned());
    }
    match interpreter(program, &theirs) {
        Ok(Some(path)) if !Path::new(&path).exists() => Err(format!(
            "it needs the loader {path}, which is not on this machine: build it for the C library \
             that is here, or install the one that it was built for"
        )),
        Ok(_) => Ok(()),
        Err(error) => Err(format!("its program table cannot be read: {error}")),
    }
}

/// `None`: it is no ELF file.
fn read(program: &File) -> io::Result<Option<Header>> {
    let mut bytes = [0; HEADER];
    match program.read_exact_at(&mut bytes, 0) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    Ok(bytes.starts_with(b"\x7fELF").then(|| Header {
        class: bytes[4],
        data: bytes[5],
        kind: u16_at(&bytes, 16),
        machine: u16_at(&bytes, 18),
        table: u64_at(&bytes, 32),
        entry: u16_at(&bytes, 54),
        entries: u16_at(&bytes, 56),
    }))
}

/// The path of the loader that the program asks for. Only called for programs of our own class.
fn interpreter(program: &File, header: &Header) -> io::Result<Option<String>> {
    let mut entry = [0; ENTRY];
    for number in 0..header.entries.min(ENTRIES_LIMIT) {
        let at = header.table.saturating_add(u64::from(number) * u64::from(header.entry));
        program.read_exact_at(&mut entry, at)?;
        if u32_at(&entry, 0) != PROGRAM_INTERPRETER {
            continue;
        }
        let mut path = vec![0; u64_at(&entry, 32).min(PATH_LIMIT) as usize];
        program.read_exact_at(&mut path, u64_at(&entry, 8))?;
        let end = path.iter().position(|byte| *byte == 0).unwrap_or(path.len());
        return Ok(Some(String::from_utf8_lossy(&path[..end]).into_owned()));
    }
    Ok(None)
}

fn architecture(header: &Header) -> String {
    let name = match header.machine {
        3 => "x86",
        21 => "powerpc64",
        22 => "s390x",
        40 => "arm",
        62 => "x86_64",
        183 => "aarch64",
        243 => "riscv",
        258 => "loongarch",
        other => return format!("architecture {other}"),
    };
    let bits = if header.class == 1 { " (32 bits)" } else { "" };
    format!("{name}{bits}")
}

// Every machine that manyhands runs on stores numbers as the headers of its own programs do.
fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_ne_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn file(bytes: &[u8]) -> File {
        let path = std::env::temp_dir().join(format!("manyhands-elf-{}", uuid::Uuid::now_v7()));
        let mut file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
        std::fs::remove_file(path).unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    #[test]
    fn this_program_runs_here() {
        assert_eq!(check(&File::open("/proc/self/exe").unwrap()), Ok(()));
    }

    #[test]
    fn what_cannot_run_is_told_apart() {
        let own = std::fs::read("/proc/self/exe").unwrap();
        let refused = |bytes: &[u8]| check(&file(bytes)).unwrap_err();
        assert!(refused(b"#!/bin/sh\n").contains("no ELF header"));
        assert!(refused(&[b'x'; 100]).contains("no ELF header"));
        let mut other = own.clone();
        other[18..20].copy_from_slice(&22_u16.to_ne_bytes());
        assert!(refused(&other).contains("it was built for s390x"), "{}", refused(&other));
        let mut object = own.clone();
        object[16..18].copy_from_slice(&1_u16.to_ne_bytes());
        assert!(refused(&object).contains("object file"));
        assert!(refused(&own[..HEADER]).contains("program table"));
        let needle = b"/ld-";
        if let Some(at) = own.windows(4).position(|window| window == needle) {
            let mut other = own.clone();
            other[at..at + 4].copy_from_slice(b"/no-");
            let words = refused(&other);
            assert!(words.contains("it needs the loader") && words.contains("/no-"), "{words}");
        }
    }
}
