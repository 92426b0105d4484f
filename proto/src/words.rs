//! How amounts and failures are written for people.
//!
//! Users of every language read these words, so they name no function, type or method of one: what a
//! user can change is called by the name of its option.

use std::fmt;

use crate::task::{Death, FailureKind, Resources};

/// A number of bytes: `12 B`, `1.5 KiB`, `512 MiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
        if self.0 < 1 << 10 {
            return write!(f, "{} B", self.0);
        }
        let fits = |power: &usize| self.0 >> (10 * (power + 1)) > 0;
        let power = (1..UNITS.len()).take_while(fits).last().unwrap_or(0);
        let tenths = (self.0 as f64 / (1u64 << (10 * (power + 1))) as f64 * 10.0).round() as u64;
        write!(f, "{} {}", Amount(tenths * 100), UNITS[power])
    }
}

/// A number of thousandths, as amounts of cores and of named resources are counted: `1`, `0.5`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Amount(pub u64);

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.0 / 1000, self.0 % 1000);
        match rest {
            0 => write!(f, "{whole}"),
            _ => write!(f, "{whole}.{}", format!("{rest:03}").trim_end_matches('0')),
        }
    }
}

/// A number of cores, in thousandths: `1 core`, `0.5 cores`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cores(pub u32);

impl fmt::Display for Cores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = if self.0 == 1000 { "core" } else { "cores" };
        write!(f, "{} {unit}", Amount(self.0.into()))
    }
}

/// A length of time in microseconds: `20 us`, `1.5 ms`, `90 s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub u64);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            us if us < 1_000 => write!(f, "{us} us"),
            us if us < 1_000_000 => write!(f, "{} ms", Amount(us)),
            us => write!(f, "{} s", Amount(us / 1_000)),
        }
    }
}

/// What a task occupies: `2 cores, 512 MiB of memory, 1 gpu`.
impl fmt::Display for Resources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Cores(self.millicores))?;
        if self.memory > 0 {
            write!(f, ", {} of memory", Bytes(self.memory))?;
        }
        self.named.iter().try_for_each(|(name, amount)| write!(f, ", {} {name}", Amount(*amount)))
    }
}

/// What happened, as the end of a sentence that begins with the task. Backtraces, and what a process
/// printed before it ended, are left out.
impl fmt::Display for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FailureKind::Error { message } => write!(f, "it returned an error: {message}"),
            FailureKind::Panicked { message, .. } => write!(f, "it panicked: {message}"),
            FailureKind::Raised { type_name, message, .. } => {
                write!(f, "it raised {type_name}: {message}")
            }
            FailureKind::Died(death) => write!(f, "its executor {death}"),
            FailureKind::TimeLimit { limit_us } => {
                write!(f, "it ran past its time limit of {}", Span(*limit_us))
            }
            FailureKind::Deadline => write!(f, "its deadline passed before it had ended"),
            FailureKind::MemoryLimit { limit, used } => {
                let (used, limit) = (Bytes(*used), Bytes(*limit));
                write!(f, "it used {used} of memory, more than its limit of {limit}")
            }
            FailureKind::Cancelled { reason } => write!(f, "it was cancelled: {reason}"),
            FailureKind::WorkerLost { worker } => write!(f, "{worker} was lost while it ran there"),
            FailureKind::LostInput { object } => {
                write!(f, "its argument {object} was lost and cannot be made again")
            }
            FailureKind::Value { message } => write!(f, "{message}"),
            FailureKind::Infeasible { message } => {
                write!(f, "no worker can ever run it: {message}")
            }
            FailureKind::Refused { message } => write!(f, "it was refused: {message}"),
        }
    }
}

/// How a process ended, without its name and its last lines.
impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.signal, self.exit_code) {
            (Some(signal), _) => write!(f, "was killed by {}", signal_name(signal))?,
            (None, Some(code)) => write!(f, "exited with code {code}")?,
            (None, None) => write!(f, "ended")?,
        }
        match self.peak_memory {
            0 => Ok(()),
            peak => write!(f, " (peak memory {})", Bytes(peak)),
        }
    }
}

impl FailureKind {
    /// What happened, in one line.
    pub fn summary(&self) -> String {
        self.to_string().lines().next().unwrap_or_default().to_owned()
    }

    /// What the user can do about it, if anything.
    pub fn advice(&self) -> Option<&'static str> {
        Some(match self {
            FailureKind::Error { .. } | FailureKind::Raised { .. } => {
                "if another attempt can end otherwise, set the option retries"
            }
            FailureKind::Panicked { backtrace, .. } if backtrace.trim().is_empty() => {
                "set RUST_BACKTRACE=1 for a backtrace, or debug it as a plain call in one process"
            }
            FailureKind::Panicked { .. } => "debug it as a plain call in one process",
            FailureKind::Died(death) if death.signal == Some(9) => {
                "the system may have run out of memory: set the option memory, so that fewer such \
                 tasks run at one time"
            }
            FailureKind::Died(_) => {
                "it may be a bug in native code: debug it as a plain call in one process"
            }
            FailureKind::TimeLimit { .. } => "raise the option time_limit, or split the task",
            FailureKind::Deadline => {
                "give it more time, raise the option priority, or ask explain why it waited"
            }
            FailureKind::MemoryLimit { .. } => "raise the option memory_limit, or split the task",
            FailureKind::WorkerLost { .. } => {
                "raise the option crash_retries if workers come and go"
            }
            FailureKind::LostInput { .. } => "submit again what makes the argument",
            FailureKind::Infeasible { .. } => "ask for less, or add a worker that has it",
            FailureKind::Cancelled { .. }
            | FailureKind::Value { .. }
            | FailureKind::Refused { .. } => return None,
        })
    }
}

fn signal_name(signal: i32) -> String {
    let name = match signal {
        2 => "SIGINT",
        4 => "SIGILL",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        15 => "SIGTERM",
        24 => "SIGXCPU",
        31 => "SIGSYS",
        _ => return format!("signal {signal}"),
    };
    format!("{name} (signal {signal})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_carry_the_unit_that_suits_them() {
        let bytes = [0, 1023, 1024, 1536, 10 << 20, (3 << 29) + 1, 1 << 40, u64::MAX];
        let written = bytes.map(|n| Bytes(n).to_string());
        let expected =
            ["0 B", "1023 B", "1 KiB", "1.5 KiB", "10 MiB", "1.5 GiB", "1 TiB", "16384 PiB"];
        assert_eq!(written, expected);
        let written = [0, 1, 1000, 1500, 2050].map(|n| Amount(n).to_string());
        assert_eq!(written, ["0", "0.001", "1", "1.5", "2.05"]);
        let written = [20, 1_500, 100_000, 1_500_000, 90_000_000].map(|n| Span(n).to_string());
        assert_eq!(written, ["20 us", "1.5 ms", "100 ms", "1.5 s", "90 s"]);
    }

    #[test]
    fn resources_are_listed_and_not_dumped() {
        assert_eq!(Resources::default().to_string(), "1 core");
        let named = vec![("gpu".to_owned(), 1000), ("tpu".to_owned(), 500)];
        let resources = Resources { millicores: 2500, memory: 512 << 20, named };
        assert_eq!(resources.to_string(), "2.5 cores, 512 MiB of memory, 1 gpu, 0.5 tpu");
    }

    #[test]
    fn advice_names_options_and_no_method_of_a_language() {
        let death =
            Death { signal: Some(9), exit_code: None, peak_memory: 0, stderr_tail: String::new() };
        let message = String::new;
        let kinds = [
            FailureKind::Error { message: message() },
            FailureKind::Panicked { message: message(), backtrace: message() },
            FailureKind::Panicked { message: message(), backtrace: "0: main".to_owned() },
            FailureKind::Died(death.clone()),
            FailureKind::Died(Death { signal: None, ..death }),
            FailureKind::TimeLimit { limit_us: 1 },
            FailureKind::Deadline,
            FailureKind::MemoryLimit { limit: 1, used: 2 },
            FailureKind::WorkerLost { worker: crate::WorkerId(1) },
            FailureKind::Infeasible { message: message() },
        ];
        for kind in kinds {
            let advice = kind.advice().unwrap();
            assert!(!advice.contains(['(', '`', '<']) && !advice.contains("::"), "{advice}");
        }
    }

    #[test]
    fn a_summary_is_one_line() {
        let stderr_tail = "one\ntwo\n".to_owned();
        let death = Death { signal: None, exit_code: Some(3), peak_memory: 3 << 20, stderr_tail };
        let kind = FailureKind::Died(death);
        assert_eq!(kind.summary(), "its executor exited with code 3 (peak memory 3 MiB)");
        assert_eq!(
            FailureKind::Error { message: "one\ntwo".to_owned() }.summary(),
            "it returned an error: one"
        );
    }
}
