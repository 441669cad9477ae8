use super::*;

/// A field as read back.
#[derive(Debug, PartialEq)]
enum Field {
    Integer(u64),
    Double(f64),
    Bytes(Vec<u8>),
    Float(f32),
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> &'a [u8] {
    let (taken, rest) = bytes.split_at(count);
    *bytes = rest;
    taken
}

fn take_varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = take(bytes, 1)[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
    }
    value
}

/// The numbered fields of a message.
fn fields(mut bytes: &[u8]) -> Vec<(u64, Field)> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let key = take_varint(&mut bytes);
        let field = match key & 7 {
            0 => Field::Integer(take_varint(&mut bytes)),
            1 => Field::Double(f64::from_le_bytes(take(&mut bytes, 8).try_into().unwrap())),
            2 => {
                let length = take_varint(&mut bytes) as usize;
                Field::Bytes(take(&mut bytes, length).to_vec())
            }
            5 => Field::Float(f32::from_le_bytes(take(&mut bytes, 4).try_into().unwrap())),
            wire => panic!("wire type {wire}"),
        };
        fields.push((key >> 3, field));
    }
    fields
}

/// The content of each record, its checksums checked.
fn records(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut records = Vec::new();
    while !bytes.is_empty() {
        let length = take(&mut bytes, 8);
        assert_eq!(take(&mut bytes, 4), masked_crc(length).to_le_bytes());
        let record = take(&mut bytes, u64::from_le_bytes(length.try_into().unwrap()) as usize);
        assert_eq!(take(&mut bytes, 4), masked_crc(record).to_le_bytes());
        records.push(record.to_vec());
    }
    records
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// CRC-32C of "123456789" is 0xe3069283; the mask is `((crc >> 15) | (crc << 17)) + 0xa282ead8`, here done by hand.
#[test]
fn checksums_are_masked() {
    assert_eq!(masked_crc(b"123456789"), 0xc78a_b0e5);
}

/// The header that every event file with version 2 shares: 24 bytes of event follow.
#[test]
fn lengths_are_framed_as_in_known_files() {
    let length = 24u64.to_le_bytes();
    assert_eq!(masked_crc(&length).to_le_bytes(), [0xa3, 0x7f, 0x4b, 0x22]);
}

#[test]
fn events_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("not/there/yet");
    let mut writer = EventWriter::create(&dir).unwrap();
    let steps = [0, 1, 127, 128, 300, u64::MAX];
    for step in steps {
        writer.scalar(step, "train/loss ∂", step as f32 + 0.5).unwrap();
    }
    writer.flush().unwrap();
    let [path] = &files(&dir)[..] else { panic!("one file") };
    assert!(path.file_name().unwrap().to_str().unwrap().starts_with("events.out.tfevents."));
    let records = records(&fs::read(path).unwrap());
    let [(1, Field::Double(time)), version] = &fields(&records[0])[..] else { panic!("version first") };
    assert!((now().as_secs_f64() - time).abs() < 60.0);
    assert_eq!(*version, (3, Field::Bytes(b"brain.Event:2".to_vec())));
    assert_eq!(records.len(), 1 + steps.len());
    for (record, step) in records[1..].iter().zip(steps) {
        let event = fields(record);
        assert!(matches!(event[0], (1, Field::Double(_))));
        assert_eq!(event[1], (2, Field::Integer(step)));
        let [_, _, (5, Field::Bytes(summary))] = &event[..] else { panic!("summary last") };
        let [(1, Field::Bytes(value))] = &fields(summary)[..] else { panic!("one value") };
        let tag = Field::Bytes("train/loss ∂".into());
        assert_eq!(fields(value), [(1, tag), (2, Field::Float(step as f32 + 0.5))]);
    }
}

#[test]
fn writers_in_the_same_second_do_not_share_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let writers = [(); 3].map(|()| EventWriter::create(folder.path()).unwrap());
    drop(writers);
    assert_eq!(files(folder.path()).len(), 3);
}

#[test]
fn dropping_writes_what_is_left() {
    let folder = tempfile::tempdir().unwrap();
    EventWriter::create(folder.path()).unwrap().scalar(1, "a", 1.0).unwrap();
    assert_eq!(records(&fs::read(&files(folder.path())[0]).unwrap()).len(), 2);
}

#[test]
fn a_file_in_place_of_the_folder_is_an_error() {
    let file = tempfile::NamedTempFile::new().unwrap();
    assert!(EventWriter::create(file.path()).is_err());
}
