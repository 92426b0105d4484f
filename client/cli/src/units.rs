//! Sizes, times and counts as people write and read them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A number of bytes: `512`, `64KiB`, `1.5GiB`, `2G`. Suffixes count in powers of 1,024.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Bytes(pub(crate) u64);

/// A length of time: `500ms`, `5s`, `1.5h`, `2m30s`; a bare number is seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Span(pub(crate) Duration);

const SIZES: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut size = 0;
        while size + 1 < SIZES.len() && self.0 >> (10 * (size + 1)) > 0 {
            size += 1;
        }
        let amount = self.0 as f64 / (1u64 << (10 * size)) as f64;
        match size {
            0 => write!(f, "{} B", self.0),
            _ if amount < 10.0 && amount.fract() > 0.0 => write!(f, "{amount:.1} {}", SIZES[size]),
            _ => write!(f, "{amount:.0} {}", SIZES[size]),
        }
    }
}

impl FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Bytes, String> {
        let wrong = || format!("{text:?} is not a size: 512, 64KiB, 1.5GiB were expected");
        let (number, suffix) = split(text.trim());
        let power = match suffix.to_ascii_lowercase().trim_end_matches('b').trim_end_matches('i') {
            "" => 0,
            "k" => 10,
            "m" => 20,
            "g" => 30,
            "t" => 40,
            "p" => 50,
            _ => return Err(wrong()),
        };
        if let Ok(whole) = number.parse::<u64>() {
            return whole.checked_mul(1 << power).map(Bytes).ok_or_else(wrong);
        }
        let number: f64 = number.parse().map_err(|_| wrong())?;
        let bytes = number * (1u64 << power) as f64;
        if !(bytes >= 0.0 && bytes < u64::MAX as f64) {
            return Err(wrong());
        }
        Ok(Bytes(bytes.round() as u64))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let us = self.0.as_micros();
        let s = self.0.as_secs();
        match s {
            _ if us == 0 => f.write_str("0 s"),
            _ if us < 1_000 => write!(f, "{us} us"),
            _ if us < 1_000_000 => write!(f, "{} ms", us / 1_000),
            0..60 if self.0.subsec_millis() >= 100 => write!(f, "{:.1} s", self.0.as_secs_f64()),
            0..60 => write!(f, "{s} s"),
            60..3_600 => write!(f, "{} min {} s", s / 60, s % 60),
            3_600..86_400 => write!(f, "{} h {} min", s / 3_600, s % 3_600 / 60),
            _ => write!(f, "{} d {} h", s / 86_400, s % 86_400 / 3_600),
        }
    }
}

impl Span {
    /// So many microseconds.
    pub(crate) fn us(us: u64) -> Span {
        Span(Duration::from_micros(us))
    }
}

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Span, String> {
        let wrong =
            || format!("{text:?} is not a length of time: 5, 500ms, 1.5h, 2m30s were expected");
        let mut rest = text.trim();
        let mut all = Duration::ZERO;
        if rest.is_empty() {
            return Err(wrong());
        }
        while !rest.is_empty() {
            let (number, tail) = split(rest);
            let end = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
            let unit = match &tail[..end] {
                "us" => 1e-6,
                "ms" => 1e-3,
                "" | "s" | "sec" => 1.0,
                "m" | "min" => 60.0,
                "h" => 3_600.0,
                "d" => 86_400.0,
                _ => return Err(wrong()),
            };
            let number: f64 = number.parse().map_err(|_| wrong())?;
            let more = Duration::try_from_secs_f64(number * unit).map_err(|_| wrong())?;
            all = all.checked_add(more).ok_or_else(wrong)?;
            rest = tail[end..].trim_start();
        }
        Ok(Span(all))
    }
}

/// The number at the front, and what follows it.
fn split(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    (&text[..end], text[end..].trim_start())
}

/// In files and in JSON these are text.
macro_rules! as_text {
    ($($t:ty),*) => { $(
        impl Serialize for $t {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.serialize_str(&self.to_string())
            }
        }
        impl<'de> Deserialize<'de> for $t {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                #[derive(Deserialize)]
                #[serde(untagged)]
                enum Either {
                    Number(u64),
                    Text(String),
                }
                let text = match Either::deserialize(from)? {
                    Either::Number(number) => number.to_string(),
                    Either::Text(text) => text,
                };
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )* };
}
as_text!(Bytes, Span);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_shown() {
        for (text, bytes, shown) in [
            ("0", 0, "0 B"),
            ("512", 512, "512 B"),
            ("64KiB", 64 << 10, "64 KiB"),
            ("1.5g", 3 << 29, "1.5 GiB"),
            ("2 TB", 2 << 40, "2 TiB"),
            ("300M", 300 << 20, "300 MiB"),
        ] {
            assert_eq!(text.parse(), Ok(Bytes(bytes)), "{text}");
            assert_eq!(Bytes(bytes).to_string(), shown);
            assert_eq!(shown.parse(), Ok(Bytes(bytes)), "what is shown can be read");
        }
        for wrong in ["", "x", "-1", "1Z", "1.2.3", "99999999P", "1e400"] {
            assert!(wrong.parse::<Bytes>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn times_are_read_and_shown() {
        for (text, ms, shown) in [
            ("5", 5_000, "5 s"),
            ("500ms", 500, "500 ms"),
            ("1.5s", 1_500, "1.5 s"),
            ("2m30s", 150_000, "2 min 30 s"),
            ("1.5h", 5_400_000, "1 h 30 min"),
            ("2d", 172_800_000, "2 d 0 h"),
        ] {
            let span = Span(Duration::from_millis(ms));
            assert_eq!(text.parse(), Ok(span), "{text}");
            assert_eq!(span.to_string(), shown);
            assert_eq!(shown.parse(), Ok(span), "what is shown can be read");
        }
        for wrong in ["", "x", "-1", "5 parsecs", "1.2.3s", "99999999999999999999d"] {
            assert!(wrong.parse::<Span>().is_err(), "{wrong}");
        }
    }
}
