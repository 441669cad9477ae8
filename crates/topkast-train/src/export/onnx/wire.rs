//! Protobuf's wire format: fields of three kinds, one after the other (<https://protobuf.dev/programming-guides/encoding>).

/// A message in the making.
#[derive(Debug, Default)]
pub(super) struct Message(pub(super) Vec<u8>);

impl Message {
    /// An integer, or the number of an enum's case.
    pub(super) fn int(mut self, field: u32, value: i64) -> Self {
        varint(u64::from(field) << 3, &mut self.0);
        varint(value as u64, &mut self.0);
        self
    }

    /// A number of four bytes.
    pub(super) fn float(mut self, field: u32, value: f32) -> Self {
        varint(u64::from(field) << 3 | 5, &mut self.0);
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    /// A text, or bytes.
    pub(super) fn bytes(mut self, field: u32, value: impl AsRef<[u8]>) -> Self {
        let value = value.as_ref();
        self.begin(field, value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }

    /// A message within.
    pub(super) fn message(self, field: u32, value: &Self) -> Self {
        self.bytes(field, &value.0)
    }

    /// What comes before a field of `length` bytes, which whoever calls this appends.
    pub(super) fn begin(&mut self, field: u32, length: u64) {
        varint(u64::from(field) << 3 | 2, &mut self.0);
        varint(length, &mut self.0);
    }
}

/// Seven bits a byte, the lowest first, the eighth bit where more follow.
fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_those_of_the_specification() {
        // Its own examples.
        assert_eq!(Message::default().int(1, 150).0, [0x08, 0x96, 0x01]);
        assert_eq!(Message::default().bytes(2, "testing").0, b"\x12\x07testing");
        let inner = Message::default().int(1, 150);
        assert_eq!(Message::default().message(3, &inner).0, [0x1a, 0x03, 0x08, 0x96, 0x01]);
        let negative = Message::default().int(1, -2).0;
        assert_eq!(negative, [0x08, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]);
        assert_eq!(Message::default().float(2, 1.0).0, [0x15, 0, 0, 0x80, 0x3f]);
        assert_eq!(Message::default().int(16, 0).0, [0x80, 0x01, 0x00]);
    }
}
