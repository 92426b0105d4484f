//! The client's program travels to workers that do not have it, once.

use std::path::{Path, PathBuf};
use std::time::Duration;

use manyhands_cluster_tests::{Cluster, Folder, Plan, in_time};

use crate::work::{check_all, many_slowly, warm};

const LIMIT: Duration = Duration::from_secs(120);

/// The programs below a worker's state directory.
fn programs(state: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![state.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => files.push(path),
            }
        }
    }
    let size = std::fs::metadata("/proc/self/exe").unwrap().len();
    files.retain(|file| file.metadata().is_ok_and(|meta| meta.len() == size));
    files
}

#[test]
fn a_program_reaches_each_worker_once_and_is_still_there_for_the_next_client() {
    in_time("a program travels", LIMIT, || {
        let state = Folder::new();
        let args = vec!["--state-dir".to_owned(), state.path().display().to_string()];
        let plan = Plan { machines: 2, workers: 2, worker: args, ..Plan::default() };
        let cluster = Cluster::start(plan);
        assert_eq!(programs(state.path()).len(), 0);
        let client = cluster.client();
        warm(&cluster, &client);
        let files = programs(state.path());
        assert_eq!(files.len(), 2, "{files:?}");
        let own = std::fs::read("/proc/self/exe").unwrap();
        assert!(files.iter().all(|file| std::fs::read(file).unwrap() == own));
        drop(client);
        let next = cluster.client();
        check_all(&next, &many_slowly(&next, 20, 0));
        assert_eq!(programs(state.path()), files);
    });
}
