//! Event files that TensorBoard reads.
//!
//! The format is a sequence of records (length, check sum, data, check sum) of protocol buffers. Scalars and PNG pictures are
//! written; other readers of event files take them, too.
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

/// Appends events to a file, each whole or not at all as far as the operating system keeps its promise.
#[derive(Debug)]
pub struct EventFile {
    file: File,
}

impl EventFile {
    /// A new file in `folder`, which is created; `time`, in seconds since 1970, is in its name. What files of the same folder
    /// have of steps from `first` on counts no longer.
    ///
    /// # Errors
    /// Of the operating system.
    pub fn create(folder: &Path, time: f64, first: u64) -> io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let mut events = Self { file: new_file(folder, time)? };
        let mut version = Message::event(time, 0);
        version.bytes(3, b"brain.Event:2");
        events.write(&version.0)?;
        // `SessionLog { status: START }`: what was later than this step is orphaned.
        let mut start = Message::default();
        start.number(1, 1);
        let mut event = Message::event(time, first);
        event.bytes(7, &start.0);
        events.write(&event.0)?;
        Ok(events)
    }

    /// Numbers of a step, by tag.
    ///
    /// # Errors
    /// Of the operating system.
    pub fn scalars(&mut self, time: f64, step: u64, scalars: &[(String, f64)]) -> io::Result<()> {
        let mut summary = Message::default();
        for (tag, value) in scalars {
            let mut scalar = Message::default();
            scalar.bytes(1, tag.as_bytes());
            scalar.float(2, *value as f32);
            summary.bytes(1, &scalar.0);
        }
        self.summary(time, step, &summary)
    }

    /// A picture of a step: `png` is a file of `size` (width, height), grey.
    ///
    /// # Errors
    /// Of the operating system.
    pub fn picture(
        &mut self,
        time: f64,
        step: u64,
        tag: &str,
        (width, height): (u32, u32),
        png: &[u8],
    ) -> io::Result<()> {
        let mut picture = Message::default();
        picture.number(1, u64::from(height));
        picture.number(2, u64::from(width));
        picture.number(3, 1);
        picture.bytes(4, png);
        let mut value = Message::default();
        value.bytes(1, tag.as_bytes());
        value.bytes(4, &picture.0);
        let mut summary = Message::default();
        summary.bytes(1, &value.0);
        self.summary(time, step, &summary)
    }

    fn summary(&mut self, time: f64, step: u64, summary: &Message) -> io::Result<()> {
        let mut event = Message::event(time, step);
        event.bytes(5, &summary.0);
        self.write(&event.0)
    }

    fn write(&mut self, data: &[u8]) -> io::Result<()> {
        let length = (data.len() as u64).to_le_bytes();
        let mut record = Vec::with_capacity(data.len() + 16);
        record.extend(length);
        record.extend(masked(&length).to_le_bytes());
        record.extend(data);
        record.extend(masked(data).to_le_bytes());
        self.file.write_all(&record)
    }
}

/// A file of a name that is not taken: TensorBoard reads those of a folder in the order of their names.
fn new_file(folder: &Path, time: f64) -> io::Result<File> {
    let mut number = 0;
    loop {
        let name = format!("events.out.tfevents.{:010}.{number:03}.gumbel", time as u64);
        match File::options().write(true).create_new(true).open(folder.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && number < 999 => {
                number += 1;
            }
            other => return other,
        }
    }
}

/// A protocol buffer in the making.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn event(time: f64, step: u64) -> Self {
        let mut event = Self::default();
        event.tag(1, 1);
        event.0.extend(time.to_le_bytes());
        event.number(2, step);
        event
    }

    fn tag(&mut self, field: u64, kind: u64) {
        self.varint(field << 3 | kind);
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn number(&mut self, field: u64, value: u64) {
        self.tag(field, 0);
        self.varint(value);
    }

    fn float(&mut self, field: u64, value: f32) {
        self.tag(field, 5);
        self.0.extend(value.to_le_bytes());
    }

    fn bytes(&mut self, field: u64, bytes: &[u8]) {
        self.tag(field, 2);
        self.varint(bytes.len() as u64);
        self.0.extend(bytes);
    }
}

/// CRC-32C (Castagnoli), rotated and shifted as record files have it.
fn masked(data: &[u8]) -> u32 {
    let crc = !data.iter().fold(!0u32, |mut crc, byte| {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82F6_3B78 } else { crc >> 1 };
        }
        crc
    });
    crc.rotate_right(15).wrapping_add(0xA282_EAD8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_sums_are_those_of_the_standard() {
        // RFC 3720, B.4: 32 zeros and 32 ones.
        let unmasked = |data: &[u8]| masked(data).wrapping_sub(0xA282_EAD8).rotate_left(15);
        assert_eq!(unmasked(&[0; 32]), 0x8A91_36AA);
        assert_eq!(unmasked(&[0xFF; 32]), 0x62A8_AB43);
        assert_eq!(unmasked(b"123456789"), 0xE306_9283);
    }

    #[test]
    fn records_are_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let mut events = EventFile::create(folder.path(), 1.7e9, 0).unwrap();
        events.scalars(1.7e9, 300, &[("valid/bound".to_owned(), -101.5)]).unwrap();
        events.picture(1.7e9, 300, "prior", (2, 3), b"png").unwrap();
        EventFile::create(folder.path(), 1.7e9, 0).unwrap();
        let path = folder.path().join("events.out.tfevents.1700000000.000.gumbel");
        let mut rest = &std::fs::read(path).unwrap()[..];
        let mut records = Vec::new();
        while !rest.is_empty() {
            let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
            assert_eq!(masked(&rest[..8]).to_le_bytes(), rest[8..12]);
            let data = &rest[12..12 + length];
            assert_eq!(masked(data).to_le_bytes(), rest[12 + length..16 + length]);
            records.push(data.to_vec());
            rest = &rest[16 + length..];
        }
        assert_eq!(records.len(), 4);
        assert!(records[0].ends_with(b"brain.Event:2"));
        // Step 300 is the varint AC 02; the number is a float behind its tag.
        let scalar = [&b"\x0a\x0bvalid/bound\x15"[..], &(-101.5f32).to_le_bytes()].concat();
        assert!(records[2].windows(scalar.len()).any(|part| part == scalar));
        assert!(records[2][9..12] == [0x10, 0xac, 0x02] && records[3].ends_with(b"\x22\x03png"));
    }
}
