//! The indices of an array.

use std::str::FromStr;

/// Indices of one array at most: their list is kept.
const LIMIT: u64 = 10_000_000;

/// Ranges of indices: `1-10`, `0-100:10`, `1,5,7-9`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Array(Vec<Range>);

#[derive(Clone, Copy, Debug, PartialEq)]
struct Range {
    first: u64,
    last: u64,
    step: u64,
}

impl Array {
    /// All of them, in the order in which they were written.
    pub(super) fn iter(&self) -> impl Iterator<Item = u64> {
        let each = |range: &Range| (range.first..=range.last).step_by(range.step as usize);
        self.0.iter().flat_map(each)
    }
}

impl Range {
    fn count(&self) -> u64 {
        ((self.last - self.first) / self.step).saturating_add(1)
    }
}

impl FromStr for Array {
    type Err = String;

    fn from_str(text: &str) -> Result<Array, String> {
        let ranges = text.split(',').map(range).collect::<Option<Vec<Range>>>();
        let ranges = ranges.ok_or("1-10, 0-100:10 or 1,5,7-9 was expected")?;
        let count = ranges.iter().fold(0u64, |sum, range| sum.saturating_add(range.count()));
        match count > LIMIT {
            true => Err(format!("an array has at most {LIMIT} indices, these are {count}")),
            false => Ok(Array(ranges)),
        }
    }
}

fn range(text: &str) -> Option<Range> {
    let (bounds, step) = match text.split_once(':') {
        Some((bounds, step)) => (bounds, step.trim().parse().ok()?),
        None => (text, 1),
    };
    let (first, last) = bounds.split_once('-').unwrap_or((bounds, bounds));
    let range = Range { first: first.trim().parse().ok()?, last: last.trim().parse().ok()?, step };
    (range.first <= range.last && range.step > 0).then_some(range)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read() {
        for (text, indices) in [
            ("3", vec![3]),
            ("1-4", vec![1, 2, 3, 4]),
            ("0-10:5", vec![0, 5, 10]),
            ("1-6:4", vec![1, 5]),
            ("7,1-2", vec![7, 1, 2]),
        ] {
            let array: Array = text.parse().unwrap();
            assert_eq!(array.iter().collect::<Vec<_>>(), indices, "{text}");
        }
        for wrong in ["", "-", "4-1", "1-4:0", "x", "1-", "0-18446744073709551615", "1-4:x"] {
            assert!(wrong.parse::<Array>().is_err(), "{wrong}");
        }
    }
}
