//! Checkpoints that are cut, damaged or made up are refused with a reason, and never a panic or a huge allocation.

mod common;
#[path = "common/counting.rs"]
mod counting;
#[path = "hostile_checkpoint/global.rs"]
mod global;
#[path = "hostile_checkpoint/later.rs"]
mod later;
#[path = "hostile_checkpoint/text.rs"]
mod text;

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use common::{Tensors, Workplace, finish, tensors};
use counting::allocated_by;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use topkast_train::checkpoint::{Checkpoint, seal};
use topkast_train::{TrainError, Trainer, load_trained};

/// The largest allocation that anything about a checkpoint of some kilobytes may make.
const BOUND: usize = 1 << 22;

/// Adam's table of corrections is short at this β₂: it is made anew whenever a file is opened.
const SMALL: [&str; 5] = [
    "model.hidden=[6]",
    "sparsity.explore=random",
    "sparsity.reservoir=dense",
    "optimizer.kind=adamw",
    "optimizer.beta2=0.9",
];

/// A data set, a trainer on it, and a valid checkpoint of that trainer.
struct Setting {
    place: Workplace,
    trainer: Trainer,
    path: PathBuf,
}

impl Setting {
    fn new() -> Self {
        Self::with(&SMALL)
    }

    /// With dormant entries in each sparse layer.
    fn of(reservoir: &str) -> Self {
        let kind = format!("sparsity.reservoir={reservoir}");
        Self::with(&[&SMALL[..], &[&kind]].concat())
    }

    fn with(overrides: &[&str]) -> Self {
        let place = Workplace::new();
        let mut trainer = place.trainer(overrides);
        finish(&mut trainer);
        let path = place.join("state.safetensors");
        trainer.save(&path, 0.0).unwrap();
        Self { place, trainer, path }
    }

    /// What a trainer and a scorer make of the file: the trainer's answer, after a check that they agree.
    fn open(&mut self) -> Result<(), TrainError> {
        let read = Checkpoint::read(&self.path);
        let resumed = read.and_then(|checkpoint| self.trainer.restore(&checkpoint, &self.path));
        let loaded = load_trained(&self.path).map(drop);
        // A damaged config may describe a network that fits, but is not the one in training.
        assert!(loaded.is_err() || loaded.is_ok() == resumed.is_ok() || is_about_the_run(&resumed));
        resumed
    }

    /// The message with which the file is refused, without the path that it begins with.
    #[track_caller]
    fn refusal(&mut self) -> String {
        let message = self.open().unwrap_err().to_string();
        let rest = message.strip_prefix(&format!("{}: ", self.path.display())).map(str::to_owned);
        rest.unwrap_or_else(|| panic!("`{message}` does not begin with the path"))
    }

    /// Changes the tensors of the file and returns how it is refused then.
    #[track_caller]
    fn refusal_with(mut self, edit: impl FnOnce(&mut Tensors)) -> String {
        rewrite(&self.path, edit);
        self.refusal()
    }
}

/// A at the end of the last epoch belongs to the run's records, and must be a set in the weight all the same.
#[test]
fn a_mask_of_another_shape_is_refused() {
    let damaged = |edit: fn(&mut (Dtype, Vec<usize>, Vec<u8>))| {
        Setting::new().refusal_with(|tensors| edit(tensors.get_mut("hidden.0.weight.epoch.offsets").unwrap()))
    };
    let rows = damaged(|(_, shape, data)| {
        let last: [u8; 4] = data[data.len() - 4..].try_into().unwrap();
        data.extend(last);
        shape[0] += 1;
    });
    assert!(rows.contains("`hidden.0.weight.epoch` has") && rows.contains("rows"), "{rows}");
    let falling = damaged(|(_, _, data)| data[4..8].copy_from_slice(&[255; 4]));
    assert!(falling.contains("`hidden.0.weight.epoch`"), "{falling}");
}

/// Found by fuzzing: what reads the header quotes what it could not make sense of, all of it.
#[test]
fn what_a_header_says_is_quoted_in_one_short_line() {
    let mut setting = Setting::new();
    let header =
        format!(r#"{{"a":{{"dtype":"F3\n{}","shape":[],"data_offsets":[0,0]}}}}"#, "x".repeat(10_000));
    put(&setting.path, &[&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat());
    let message = setting.refusal();
    assert!(message.contains("F3 xxx") && message.len() < 400 && !message.contains('\n'), "{message}");
}

fn is_about_the_run(resumed: &Result<(), TrainError>) -> bool {
    let message = resumed.as_ref().unwrap_err().to_string();
    ["from another config", "made from other data", "has more steps", "where pruning has"]
        .iter()
        .any(|part| message.contains(part))
}

/// Makes a new file at `path`: some file systems wait for the disk where a file is overwritten.
fn put(path: &Path, bytes: &[u8]) {
    fs::remove_file(path).unwrap();
    fs::write(path, bytes).unwrap();
}

/// As [`put`], with the checksum that the bytes have to have.
fn put_sealed(path: &Path, mut bytes: Vec<u8>) {
    seal(&mut bytes);
    put(path, &bytes);
}

/// Replaces the tensors of the checkpoint at `path`; its metadata stays.
fn rewrite(path: &Path, edit: impl FnOnce(&mut Tensors)) {
    let bytes = fs::read(path).unwrap();
    let metadata: Option<HashMap<String, String>> =
        SafeTensors::read_metadata(&bytes).unwrap().1.metadata().clone();
    let mut all = tensors(path);
    edit(&mut all);
    let views = all
        .iter()
        .map(|(name, (dtype, shape, data))| (name, TensorView::new(*dtype, shape.clone(), data).unwrap()));
    put_sealed(path, safetensors::serialize(views, metadata).unwrap());
}

/// Replaces the state, JSON, in the checkpoint at `path`; its tensors stay.
fn rewrite_state(path: &Path, edit: impl FnOnce(&str) -> String) {
    let bytes = fs::read(path).unwrap();
    let mut metadata = SafeTensors::read_metadata(&bytes).unwrap().1.metadata().clone().unwrap();
    let state = metadata.get_mut("topkast").unwrap();
    *state = edit(state);
    let all = SafeTensors::deserialize(&bytes).unwrap();
    put_sealed(path, safetensors::serialize(all.tensors(), Some(metadata)).unwrap());
}

/// The numbers of a tensor of 2-byte columns, edited.
fn edit_u16(all: &mut Tensors, name: &str, edit: impl FnOnce(&mut Vec<u16>)) {
    let (_, shape, data) = all.get_mut(name).unwrap();
    let mut numbers = data.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]])).collect();
    edit(&mut numbers);
    *shape = vec![numbers.len()];
    *data = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
}

/// The numbers of a tensor of 4-byte elements, as bits, edited.
fn edit_u32(all: &mut Tensors, name: &str, edit: impl FnOnce(&mut Vec<u32>)) {
    let (_, shape, data) = all.get_mut(name).unwrap();
    let mut numbers = data.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    edit(&mut numbers);
    *shape = vec![numbers.len()];
    *data = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
}

const ACTIVE: &str = "hidden.0.weight.active.columns";
const VALUES: &str = "hidden.0.weight.values";

#[test]
fn an_untouched_checkpoint_and_one_written_again_are_accepted() {
    let mut setting = Setting::new();
    setting.open().unwrap();
    rewrite(&setting.path, |_| {});
    setting.open().unwrap();
    load_trained(&setting.path).unwrap();
}

#[test]
fn cut_anywhere_it_is_refused() {
    let setting = Setting::new();
    let whole = fs::read(&setting.path).unwrap();
    let ((), allocated) = allocated_by(|| {
        for length in 0..whole.len() {
            put(&setting.path, &whole[..length]);
            // Reading refuses it already, so there is nothing to restore.
            let message = Checkpoint::read(&setting.path).map(drop).unwrap_err().to_string();
            assert!(message.contains(": not a whole Topkast checkpoint: "), "{length} bytes: {message}");
        }
    });
    assert!(allocated.largest < BOUND, "{allocated:?}");
}

#[test]
fn followed_by_more_it_is_refused() {
    let mut setting = Setting::new();
    let mut bytes = fs::read(&setting.path).unwrap();
    bytes.push(0);
    put(&setting.path, &bytes);
    assert!(setting.refusal().starts_with("not a whole Topkast checkpoint: "));
}

/// A bit of every byte, whatever it belongs to: length, header, state, checksum, padding, every tensor.
#[test]
fn no_flipped_bit_goes_unnoticed() {
    let setting = Setting::new();
    let mut bytes = fs::read(&setting.path).unwrap();
    let ((), allocated) = allocated_by(|| {
        for at in 0..bytes.len() {
            let flip = 1 << (at % 8);
            bytes[at] ^= flip;
            put(&setting.path, &bytes);
            let message = Checkpoint::read(&setting.path).map(drop).unwrap_err().to_string();
            assert!(message.contains("state.safetensors: ") && !message.contains('\n'), "{at}: {message}");
            bytes[at] ^= flip;
        }
    });
    assert!(allocated.largest < BOUND, "{allocated:?}");
    // Of tensors, nothing but the checksum tells.
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    put(&setting.path, &bytes);
    let message = Checkpoint::read(&setting.path).map(drop).unwrap_err().to_string();
    assert!(message.contains("bytes have changed since"), "{message}");
}

#[test]
fn another_format_is_refused_by_its_number() {
    for format in [0, 1, 4, 4_000_000_000u32] {
        let mut setting = Setting::new();
        rewrite_state(&setting.path, |state| state.replace("\"format\":3", &format!("\"format\":{format}")));
        let message = setting.refusal();
        assert!(
            message.starts_with(&format!("written in format {format}; this version of Topkast")),
            "{message}"
        );
        assert!(message.contains("reads 2 to 3: use the one that wrote it"), "{message}");
    }
}

#[test]
fn without_its_checksum_it_is_refused() {
    let mut setting = Setting::new();
    let bytes = fs::read(&setting.path).unwrap();
    let mut metadata = SafeTensors::read_metadata(&bytes).unwrap().1.metadata().clone().unwrap();
    metadata.remove("crc32c").unwrap();
    let all = SafeTensors::deserialize(&bytes).unwrap();
    put(&setting.path, &safetensors::serialize(all.tensors(), Some(metadata)).unwrap());
    assert_eq!(setting.refusal(), "not a whole Topkast checkpoint: its metadata has no `crc32c` entry");
}

/// Flips bits of up to three bytes, thousands of times, under a checksum that fits. What is accepted nevertheless must be trainable.
#[test]
fn bit_flips_neither_panic_nor_take_much_memory() {
    let mut setting = Setting::new();
    let whole = fs::read(&setting.path).unwrap();
    let mut random = 1u64;
    let mut draw = |below: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) as usize % below
    };
    let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    let mut accepted = 0;
    let ((), allocated) = allocated_by(|| {
        for round in 0..4000 {
            let mut bytes = whole.clone();
            // Half of the rounds hit the header, which is the smaller part.
            let range = if round % 2 == 0 { header } else { whole.len() };
            for _ in 0..=draw(3) {
                bytes[draw(range)] ^= 1 << draw(8);
            }
            put_sealed(&setting.path, bytes);
            if setting.open().is_ok() {
                accepted += 1;
                if setting.trainer.steps_done() < setting.trainer.total_steps() {
                    // It may diverge, but says so.
                    let _ = setting.trainer.step();
                }
            }
        }
    });
    assert!(accepted > 100, "only {accepted} got as far as the values");
    assert!(allocated.largest < BOUND, "{allocated:?}");
}

#[test]
fn a_config_that_asks_for_a_giant_network_takes_no_memory() {
    for (model, sparsity) in [
        ("hidden = [6000000]", "method = \"top-kast\""),
        ("hidden = [1000000000, 1000000000]", "method = \"dense\""),
        ("hidden = [1000000000, 1000000000]", "method = \"static\""),
    ] {
        let setting = Setting::new();
        rewrite_state(&setting.path, |state| {
            let (old_model, old_sparsity) = ("hidden = [6]", "method = \\\"top-kast\\\"");
            assert!(state.contains(old_model) && state.contains(old_sparsity), "{state}");
            state.replace(old_model, model).replace(old_sparsity, &sparsity.replace('"', "\\\""))
        });
        let (loaded, allocated) = allocated_by(|| load_trained(&setting.path).map(drop));
        let message = loaded.unwrap_err().to_string();
        assert!(
            message.contains("too short for the network") || message.contains("at most 2^32"),
            "{message}"
        );
        assert!(allocated.largest < BOUND, "{allocated:?}");
    }
}

#[test]
fn dense_products_for_what_is_no_sparse_layer() {
    for name in ["output", "hidden.7"] {
        let mut setting = Setting::new();
        let record = format!(r#"{{"name":"{name}","sparse_ms":2.0,"dense_ms":1.0,"products":"dense"}}"#);
        rewrite_state(&setting.path, |state| {
            format!("{},\"products\":[{record}]}}", state.strip_suffix('}').unwrap())
        });
        assert_eq!(setting.refusal(), format!("layer `{name}` cannot have dense products"));
    }
}

#[test]
fn another_config_is_refused_by_the_line_that_differs() {
    let mut setting = Setting::new();
    setting.trainer = setting.place.trainer(&[&SMALL[..], &["optimizer.lr=0.25"]].concat());
    assert_eq!(setting.refusal(), "from another config: optimizer.lr is 0.05 there and 0.25 here");
}

#[test]
fn other_data_is_refused() {
    let mut setting = Setting::new();
    let images = setting.place.join("train-images-idx3-ubyte");
    let mut bytes = fs::read(&images).unwrap();
    bytes[100..200].fill(255);
    fs::write(images, bytes).unwrap();
    setting.trainer = setting.place.trainer(&SMALL);
    assert_eq!(setting.refusal(), "made from other data than data.path now holds");
}

#[test]
fn columns_that_do_not_ascend() {
    let message = Setting::new().refusal_with(|all| edit_u16(all, ACTIVE, |columns| columns.swap(0, 1)));
    let start = "`hidden.0.weight.active`: row 0 must list its columns strictly ascending, but ";
    assert!(message.starts_with(start), "{message}");
}

#[test]
fn a_column_named_twice() {
    let message = Setting::new().refusal_with(|all| edit_u16(all, ACTIVE, |columns| columns[1] = columns[0]));
    let start = "`hidden.0.weight.active`: row 0 must list its columns strictly ascending, but ";
    assert!(message.starts_with(start), "{message}");
}

#[test]
fn a_column_that_does_not_exist() {
    let message = Setting::new().refusal_with(|all| {
        edit_u16(all, ACTIVE, |columns| *columns.last_mut().unwrap() = 64);
    });
    assert_eq!(message, "`hidden.0.weight.active`: row 5 names column 64, but there are 64");
}

#[test]
fn an_entry_both_in_a_and_in_the_exploration_set() {
    let message = Setting::new().refusal_with(|all| {
        let column = u16::from_le_bytes(all[ACTIVE].2[..2].try_into().unwrap());
        edit_u16(all, "hidden.0.weight.explore.columns", |columns| {
            let place = columns.iter().position(|&other| other > column).unwrap_or(0);
            columns[place] = column;
        });
    });
    assert!(message.contains("is both in A and in B\\A"), "{message}");
}

#[test]
fn offsets_that_do_not_end_at_the_last_entry() {
    let message = Setting::new().refusal_with(|all| {
        edit_u32(all, "hidden.0.weight.active.offsets", |offsets| *offsets.last_mut().unwrap() -= 1);
    });
    assert!(message.starts_with("`hidden.0.weight.active`: row offsets must ascend from 0"), "{message}");
}

#[test]
fn offsets_of_another_number_of_rows() {
    let message = Setting::new().refusal_with(|all| {
        for set in ["active", "explore"] {
            edit_u32(all, &format!("hidden.0.weight.{set}.offsets"), |offsets| {
                offsets.insert(0, 0);
            });
        }
    });
    assert_eq!(message, "`hidden.0.weight`: rows: 7 given, 6 expected");
}

#[test]
fn an_active_set_of_another_size() {
    let message = Setting::new().refusal_with(|all| {
        edit_u16(all, ACTIVE, |columns| columns.truncate(75));
        edit_u32(all, "hidden.0.weight.active.offsets", |offsets| *offsets.last_mut().unwrap() -= 1);
    });
    assert_eq!(message, "`hidden.0.weight`: active entries: 75 given, 76 expected");
}

#[test]
fn values_that_are_too_few_or_too_many() {
    let fewer = Setting::new().refusal_with(|all| edit_u32(all, VALUES, |values| values.truncate(152)));
    assert_eq!(fewer, "`hidden.0.weight`: values: 152 given, 153 expected");
    let more = Setting::new().refusal_with(|all| edit_u32(all, VALUES, |values| values.push(0)));
    assert_eq!(more, "`hidden.0.weight`: values: 154 given, 153 expected");
    let dense = Setting::new()
        .refusal_with(|all| edit_u32(all, "output.weight.values", |values| values.truncate(23)));
    assert_eq!(dense, "tensor `output.weight.values` has 23 elements where the network has 24");
}

#[test]
fn reservoirs_of_another_size() {
    let theta = Setting::new()
        .refusal_with(|all| edit_u32(all, "hidden.0.weight.theta", |theta| theta.truncate(383)));
    assert_eq!(theta, "`hidden.0.weight`: initial values: 383 given, 384 expected");
    let bits = Setting::new().refusal_with(|all| {
        let (_, shape, data) = all.get_mut("hidden.0.weight.dormant").unwrap();
        *shape = vec![shape[0] - 1];
        data.truncate(data.len() - 8);
    });
    assert_eq!(bits, "`hidden.0.weight`: dormant bits: 5 given, 6 expected");
}

/// Changes the indices of the dormant entries and returns how the file is refused then.
#[track_caller]
fn refusal_with_dormant(edit: impl FnOnce(&mut Vec<u64>)) -> String {
    Setting::of("implicit").refusal_with(|all| {
        let (_, shape, data) = all.get_mut("hidden.0.weight.dormant.indices").unwrap();
        let mut numbers: Vec<u64> =
            data.chunks_exact(8).map(|bytes| u64::from_le_bytes(bytes.try_into().unwrap())).collect();
        assert!(numbers.len() > 3);
        edit(&mut numbers);
        *shape = vec![numbers.len()];
        *data = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
    })
}

#[test]
fn dormant_entries_that_cannot_be() {
    let outside = refusal_with_dormant(|indices| *indices.last_mut().unwrap() = 384);
    assert_eq!(outside, "`hidden.0.weight`: dormant entry 384 is outside the weight");
    let huge = refusal_with_dormant(|indices| *indices.last_mut().unwrap() = u64::MAX);
    assert!(huge.ends_with("is outside the weight"), "{huge}");
    let twice = refusal_with_dormant(|indices| indices[1] = indices[0]);
    assert!(twice.ends_with("does not ascend"), "{twice}");
    let fewer = refusal_with_dormant(|indices| _ = indices.pop());
    assert!(fewer.starts_with("`hidden.0.weight`: values of dormant entries: "), "{fewer}");
    // Every entry dormant: some of them are in B.
    let in_b = Setting::of("implicit").refusal_with(|all| {
        let indices: Vec<u8> = (0..384u64).flat_map(u64::to_le_bytes).collect();
        all.insert("hidden.0.weight.dormant.indices".to_owned(), (Dtype::U64, vec![384], indices));
        all.insert("hidden.0.weight.dormant.values".to_owned(), (Dtype::F32, vec![384], vec![0; 4 * 384]));
    });
    assert!(in_b.ends_with("is in B"), "{in_b}");
}

#[test]
fn missing_tensors() {
    for reservoir in ["dense", "implicit"] {
        let setting = Setting::of(reservoir);
        let names: Vec<String> = tensors(&setting.path).into_keys().collect();
        // A of the last epoch's end among them.
        assert_eq!(names.len(), 24);
        for name in names {
            let message = Setting::of(reservoir).refusal_with(|all| drop(all.remove(&name)));
            assert_eq!(message, format!("tensor `{name}` is missing"));
        }
    }
}

#[test]
fn tensors_too_many() {
    for name in ["hidden.1.weight.values", "output.weight.theta", "notes"] {
        let message = Setting::new().refusal_with(|all| {
            all.insert(name.to_owned(), (Dtype::F32, vec![1], vec![0; 4]));
        });
        let expected = format!("tensor `{name}` belongs to no parameter of the configured network");
        assert_eq!(message, expected);
    }
}

#[test]
fn tensors_of_another_type() {
    for (name, dtype, right) in [
        (VALUES, Dtype::I32, "F32"),
        (ACTIVE, Dtype::F16, "U16"),
        ("output.bias.age", Dtype::F32, "U32"),
        ("hidden.0.weight.dormant", Dtype::I64, "U64"),
    ] {
        let message = Setting::new().refusal_with(|all| all.get_mut(name).unwrap().0 = dtype);
        assert_eq!(message, format!("tensor `{name}` must be a vector of {right}"));
    }
    let matrix =
        Setting::new().refusal_with(|all| all.get_mut("output.weight.values").unwrap().1 = vec![4, 6]);
    assert_eq!(matrix, "tensor `output.weight.values` must be a vector of F32");
}

#[test]
fn numbers_that_are_not_finite() {
    for (name, bits, shown) in [
        (VALUES, f32::NAN.to_bits(), "NaN"),
        ("hidden.0.weight.theta", f32::INFINITY.to_bits(), "inf"),
        ("output.weight.first", f32::NEG_INFINITY.to_bits(), "-inf"),
        ("output.bias.second", f32::NAN.to_bits(), "NaN"),
    ] {
        let message = Setting::new().refusal_with(|all| edit_u32(all, name, |values| values[3] = bits));
        assert_eq!(message, format!("tensor `{name}` holds {shown} at 3"));
    }
}
