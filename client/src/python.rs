//! Python: how its interpreters are set up.

use std::path::PathBuf;

use manyhands_proto::client::Environment;

/// How Python is set up for the functions of a client's session.
#[derive(Clone, Debug)]
pub struct PythonConfig {
    /// The interpreter of a cluster that is started in this process: its file, or its name, which is
    /// looked for in `PATH`. The workers of other clusters have one already.
    pub interpreter: PathBuf,
    /// What it imports, and with which settings, before it runs functions.
    pub environment: Environment,
    /// A cluster that is started in this process gets interpreters ready at once, and not with the
    /// first function.
    pub prestart: bool,
}

impl Default for PythonConfig {
    /// What `MANYHANDS_PYTHON` names, else `python3`; nothing imported and nothing set.
    fn default() -> PythonConfig {
        let interpreter = std::env::var_os("MANYHANDS_PYTHON").filter(|named| !named.is_empty());
        PythonConfig {
            interpreter: interpreter.map_or_else(|| "python3".into(), PathBuf::from),
            environment: Environment::default(),
            prestart: false,
        }
    }
}
