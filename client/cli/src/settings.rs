//! Settings of the daemons: by flags, else by the environment, else by a file.
//!
//! Each setting is a field of one struct, which is documented there and nowhere else: `--help`,
//! `--print-config` and the file's keys come from it.

use std::path::{Path, PathBuf};

use clap::{Arg, Args, Command};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::failure::Failure;

/// The file that is read if it is there and no other is named.
const FILE: &str = "manyhands.toml";

/// The tables of the file.
const TABLES: [&str; 2] = ["scheduler", "worker"];

/// Where settings come from, besides flags and environment.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Config {
    /// A TOML file with settings: the names of the flags, in a table [scheduler] or [worker]. Unless
    /// set: manyhands.toml in the working directory, if it is there. What a flag or a variable says
    /// counts more
    #[arg(long, env = "MANYHANDS_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print the settings as such a file, with words on each, and end
    #[arg(long)]
    pub(crate) print_config: bool,
}

impl Config {
    /// What flags and environment gave, completed by the file's table of this name.
    pub(crate) fn complete<S>(&self, given: &S, table: &str) -> Result<S, Failure>
    where
        S: Serialize + DeserializeOwned,
    {
        let path = self.config.as_deref().unwrap_or(Path::new(FILE));
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if self.config.is_none() && error.kind() == std::io::ErrorKind::NotFound => {
                String::new()
            }
            Err(error) => return Err(Failure::file(path, "read", error)),
        };
        merge(given, &text, table).map_err(|message| Failure::value(path.display(), message))
    }
}

fn merge<S: Serialize + DeserializeOwned>(given: &S, text: &str, table: &str) -> Result<S, String> {
    let mut file: Map<String, Value> = toml::from_str(text).map_err(|error| error.to_string())?;
    if let Some(unknown) = file.keys().find(|key| !TABLES.contains(&key.as_str())) {
        return Err(format!("{unknown:?} is none of the tables [scheduler] and [worker]"));
    }
    let mut settings = match file.remove(table) {
        None => Map::new(),
        Some(Value::Object(settings)) => settings,
        Some(_) => return Err(format!("{table:?} has to be a table: [{table}]")),
    };
    let given = serde_json::to_value(given).map_err(|error| error.to_string())?;
    if let Value::Object(given) = given {
        settings.extend(given);
    }
    serde_json::from_value(settings.into()).map_err(|error| format!("[{table}]: {error}"))
}

/// Settings as a file: every one of them with its documentation, those that are not set as comments.
pub(crate) fn print<S: Args + Serialize>(settings: &S, table: &str) -> String {
    let set = serde_json::to_value(settings).unwrap_or_default();
    let command = S::augment_args(Command::new("settings"));
    let mut text = format!("[{table}]\n");
    for arg in command.get_arguments() {
        let key = arg.get_id().as_str().replace('_', "-");
        text.push('\n');
        for line in wrapped(&documented(arg)) {
            text.push_str(&format!("# {line}\n"));
        }
        match set.get(&key) {
            Some(value) => text.push_str(&format!("{key} = {value}\n")),
            None => text.push_str(&format!("# {key} =\n")),
        }
    }
    text
}

fn documented(arg: &Arg) -> String {
    let help = arg.get_long_help().or_else(|| arg.get_help());
    let mut words = help.map(|help| help.to_string()).unwrap_or_default();
    if let Some(variable) = arg.get_env() {
        words.push_str(&format!(". Environment: {}", variable.to_string_lossy()));
    }
    words
}

/// Lines of at most 96 characters.
fn wrapped(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("there is always a line");
        if !line.is_empty() && line.len() + word.len() > 95 {
            lines.push(word.to_owned());
        } else {
            let gap = if line.is_empty() { "" } else { " " };
            line.push_str(gap);
            line.push_str(word);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Bytes;
    use serde::Deserialize;

    #[derive(Debug, Default, PartialEq, Args, Serialize, Deserialize)]
    #[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
    struct Sample {
        /// How large it may be
        #[arg(long, env = "MANYHANDS_SAMPLE_SIZE_LIMIT")]
        #[serde(skip_serializing_if = "Option::is_none")]
        size_limit: Option<Bytes>,
        /// Its labels
        #[arg(long)]
        #[serde(skip_serializing_if = "Vec::is_empty")]
        label: Vec<String>,
    }

    fn size(size_limit: u64) -> Sample {
        Sample { size_limit: Some(Bytes(size_limit)), label: Vec::new() }
    }

    #[test]
    fn a_flag_counts_more_than_the_file() {
        let file = "[worker]\nsize-limit = \"2MiB\"\nlabel = [\"a=b\"]\n[scheduler]\n";
        let merged = merge(&Sample::default(), file, "worker").unwrap();
        assert_eq!(merged, Sample { label: vec!["a=b".to_owned()], ..size(2 << 20) });
        let merged = merge(&size(7), file, "worker").unwrap();
        assert_eq!(merged, Sample { label: vec!["a=b".to_owned()], ..size(7) });
        assert_eq!(merge(&size(7), "", "worker").unwrap(), size(7));
    }

    #[test]
    fn what_the_file_says_wrong_is_named() {
        for (file, words) in [
            ("[worker]\nsize = 1", "unknown field `size`"),
            ("[worker]\nsize-limit = \"big\"", "\"big\" is not a size"),
            ("[wroker]\n", "\"wroker\" is none of the tables"),
            ("worker = 1", "has to be a table"),
            ("x", "expected"),
        ] {
            let error = merge(&Sample::default(), file, "worker").unwrap_err();
            assert!(error.contains(words), "{file:?}: {error}");
        }
    }

    #[test]
    fn settings_are_printed_as_a_file_that_can_be_read() {
        let text = print(&size(2 << 20), "worker");
        let expected = "[worker]\n\n# How large it may be. Environment: MANYHANDS_SAMPLE_SIZE_LIMIT\n\
            size-limit = \"2 MiB\"\n\n# Its labels\n# label =\n";
        assert_eq!(text, expected);
        assert_eq!(merge(&Sample::default(), &text, "worker").unwrap(), size(2 << 20));
    }
}
