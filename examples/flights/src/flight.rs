//! One departure, and how a part of the table is parsed.

use std::path::{Path, PathBuf};

use bytemuck::{Pod, Zeroable};
use csv::{ByteRecord, Reader};

use crate::DataError;

/// One departure: 28 bytes of plain data, so that a parsed part is one flat array which the tasks
/// that need it read where it lies.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct Flight {
    /// The scheduled hour of departure, in hours since the Unix epoch.
    pub hour_unix: u32,
    /// Registration of the plane, filled up with zeros; all zeros when it is not known.
    pub tail: Code<6>,
    /// Airport of departure.
    pub origin: Code<3>,
    /// Airport of arrival.
    pub dest: Code<3>,
    /// The carrier.
    pub carrier: Code<2>,
    /// Month, from 1.
    pub month: u8,
    /// Scheduled hour of departure on the clocks of New York.
    pub hour: u8,
    /// Minutes late at departure (negative: early), or [`Flight::NEVER`].
    pub dep_delay: i16,
    /// Minutes late at arrival (negative: early), or [`Flight::NEVER`].
    pub arr_delay: i16,
    /// Miles between the airports.
    pub distance: u16,
    /// Minutes in the air, 0 when not known.
    pub air_time: u16,
}

impl Flight {
    /// Stands for the delay of a flight that never departed, or never arrived where it should.
    pub const NEVER: i16 = i16::MIN;
}

/// A short code of ASCII characters, filled up with zeros.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
pub struct Code<const N: usize>(pub [u8; N]);

impl<const N: usize> Code<N> {
    /// The code of these bytes, or `None` if they are too many.
    pub fn new(bytes: &[u8]) -> Option<Code<N>> {
        let mut code = [0; N];
        code.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(Code(code))
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        let len = self.0.iter().position(|byte| *byte == 0).unwrap_or(N);
        std::str::from_utf8(&self.0[..len]).unwrap_or("?")
    }
}

impl<const N: usize> std::fmt::Debug for Code<N> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Reads one part of the table of departures.
pub fn read_part(path: &Path) -> Result<Vec<Flight>, DataError> {
    let mut table = Table::open(path)?;
    let mut flights = Vec::with_capacity(8192);
    while let Some(row) = table.next_row()? {
        flights.push(Flight {
            hour_unix: row.hour_unix("time_hour", 18)?,
            tail: row.known("tailnum", 11, Code::new)?.unwrap_or(Code([0; 6])),
            origin: row.field("origin", 12, Code::new)?,
            dest: row.field("dest", 13, Code::new)?,
            carrier: row.field("carrier", 9, Code::new)?,
            month: row.number("month", 1)?,
            hour: row.number("hour", 16)?,
            dep_delay: row.known_number("dep_delay", 5)?.unwrap_or(Flight::NEVER),
            arr_delay: row.known_number("arr_delay", 8)?.unwrap_or(Flight::NEVER),
            distance: row.number("distance", 15)?,
            air_time: row.known_number("air_time", 14)?.unwrap_or(0),
        });
    }
    Ok(flights)
}

/// A file in CSV with a header, read row by row.
pub(crate) struct Table {
    path: PathBuf,
    reader: Reader<std::fs::File>,
    record: ByteRecord,
}

/// A row, with what its errors need to say where they are.
pub(crate) struct Row<'a> {
    path: &'a Path,
    record: &'a ByteRecord,
}

impl Table {
    pub(crate) fn open(path: &Path) -> Result<Table, DataError> {
        let reader = Reader::from_path(path)
            .map_err(|source| DataError::Malformed { path: path.to_owned(), source })?;
        Ok(Table { path: path.to_owned(), reader, record: ByteRecord::new() })
    }

    pub(crate) fn next_row(&mut self) -> Result<Option<Row<'_>>, DataError> {
        let more = self
            .reader
            .read_byte_record(&mut self.record)
            .map_err(|source| DataError::Malformed { path: self.path.clone(), source })?;
        Ok(more.then_some(Row { path: &self.path, record: &self.record }))
    }
}

impl Row<'_> {
    /// The field at `index`, as `read` makes it out; an error names it `column`.
    pub(crate) fn field<T>(
        &self,
        column: &'static str,
        index: usize,
        read: impl FnOnce(&[u8]) -> Option<T>,
    ) -> Result<T, DataError> {
        let bytes = self.record.get(index).unwrap_or_default();
        read(bytes).ok_or_else(|| DataError::Field {
            path: self.path.to_owned(),
            line: self.record.position().map_or(0, |position| position.line()),
            column,
            found: String::from_utf8_lossy(bytes).into_owned(),
        })
    }

    /// The same for a field that may be `NA`.
    pub(crate) fn known<T>(
        &self,
        column: &'static str,
        index: usize,
        read: impl FnOnce(&[u8]) -> Option<T>,
    ) -> Result<Option<T>, DataError> {
        let bytes = self.record.get(index).unwrap_or_default();
        if bytes == b"NA" { Ok(None) } else { self.field(column, index, read).map(Some) }
    }

    pub(crate) fn number<T: std::str::FromStr>(
        &self,
        column: &'static str,
        index: usize,
    ) -> Result<T, DataError> {
        self.field(column, index, parse)
    }

    pub(crate) fn known_number<T: std::str::FromStr>(
        &self,
        column: &'static str,
        index: usize,
    ) -> Result<Option<T>, DataError> {
        self.known(column, index, parse)
    }

    pub(crate) fn text(&self, column: &'static str, index: usize) -> Result<String, DataError> {
        self.field(column, index, |bytes| Some(std::str::from_utf8(bytes).ok()?.to_owned()))
    }

    /// Hours since the Unix epoch of a time like `2013-01-01T10:00:00Z`.
    pub(crate) fn hour_unix(&self, column: &'static str, index: usize) -> Result<u32, DataError> {
        self.field(column, index, hour_unix)
    }
}

fn parse<T: std::str::FromStr>(bytes: &[u8]) -> Option<T> {
    std::str::from_utf8(bytes).ok()?.parse().ok()
}

fn hour_unix(time: &[u8]) -> Option<u32> {
    if time.len() != 20 || &time[13..] != b":00:00Z" {
        return None;
    }
    let (year, month, day): (i64, i64, i64) =
        (parse(&time[..4])?, parse(&time[5..7])?, parse(&time[8..10])?);
    let hour: i64 = parse(&time[11..13])?;
    // Days from civil, after Howard Hinnant: years begin in March, so that leap days come last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    let days = 365 * year + year / 4 - year / 100 + year / 400 + day_of_year - 719_468;
    u32::try_from(days * 24 + hour).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_are_counted_from_the_epoch_over_leap_days() {
        assert_eq!(hour_unix(b"1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(hour_unix(b"2013-01-01T10:00:00Z"), Some(1_357_034_400 / 3600));
        assert_eq!(hour_unix(b"2012-03-01T00:00:00Z"), Some(1_330_560_000 / 3600));
        assert_eq!(hour_unix(b"2013-01-01T10:30:00Z"), None);
        assert_eq!(hour_unix(b"yesterday"), None);
    }

    #[test]
    fn codes_are_filled_up_and_too_long_ones_refused() {
        assert_eq!(Code::<6>::new(b"N14228").unwrap().as_str(), "N14228");
        assert_eq!(Code::<6>::new(b"D942").unwrap().as_str(), "D942");
        assert_eq!(Code::<3>::new(b"EWRX"), None);
    }
}
