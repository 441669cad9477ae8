//! Exports come from strangers: cut, damaged or made up, they are refused with a reason, and never a panic or a huge allocation.

mod common;
#[path = "common/counting.rs"]
mod counting;

use std::fs;
use std::path::PathBuf;

use common::{Tensors, Workplace, finish, tensors};
use counting::allocated_by;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};
use topkast_train::{Format, Trainer, load_trained};

/// Bytes that reading a damaged file may take at once. What tests beside it make their files with counts, too: some 5 MB.
const BOUND: usize = 1 << 23;

/// An export of a small MLP, to be damaged.
struct Setting {
    _place: Workplace,
    path: PathBuf,
}

impl Setting {
    fn new() -> Self {
        let place = Workplace::new();
        Self::of(place.trainer(&["model.hidden=[6]"]), place)
    }

    fn text() -> Self {
        let place = Workplace::new();
        let text = place.join("text");
        fs::write(&text, "To be, or not to be. ".repeat(50)).unwrap();
        let settings = [
            "data.kind=bytes",
            &format!("data.path={}", text.display()),
            "model.kind=transformer-xl",
            "model.layers=1",
            "model.width=12",
            "model.feed_forward=8",
            "train.batch=1",
            "train.steps=1",
        ];
        let config = topkast_train::Config::load(None, &settings.map(str::to_owned)).unwrap();
        Self::of(Trainer::new(config).unwrap(), place)
    }

    fn of(mut trainer: Trainer, place: Workplace) -> Self {
        finish(&mut trainer);
        let (checkpoint, path) = (place.join("state.safetensors"), place.join("export"));
        trainer.save(&checkpoint, 0.0).unwrap();
        load_trained(&checkpoint).unwrap().export(Format::Sparse, &path, 0).unwrap();
        Self { _place: place, path }
    }

    /// The message with which the file is refused, without the path that it begins with.
    #[track_caller]
    fn refusal(&self) -> String {
        let (loaded, allocated) = allocated_by(|| load_trained(&self.path).map(drop));
        assert!(allocated.largest < BOUND, "{allocated:?}");
        let error = loaded.unwrap_err();
        let message = error.to_string();
        assert!(error.is_bad_input() && !message.contains('\n'), "{message}");
        let rest = message.strip_prefix(&format!("{}: ", self.path.display())).map(str::to_owned);
        rest.unwrap_or_else(|| panic!("`{message}` does not begin with the path"))
    }

    /// Replaces what the file says of itself and its tensors.
    fn rewrite(&self, about: impl FnOnce(&mut Value), edit: impl FnOnce(&mut Tensors)) {
        let bytes = fs::read(&self.path).unwrap();
        let mut metadata = SafeTensors::read_metadata(&bytes).unwrap().1.metadata().clone().unwrap();
        let text = metadata.get_mut("topkast-export").unwrap();
        let mut value = serde_json::from_str(text).unwrap();
        about(&mut value);
        *text = value.to_string();
        let mut all = tensors(&self.path);
        edit(&mut all);
        let view = |(name, (dtype, shape, data)): (&String, &(Dtype, Vec<usize>, Vec<u8>))| {
            (
                name.clone(),
                TensorView::new(*dtype, shape.clone(), data).unwrap().data().to_vec(),
                *dtype,
                shape.clone(),
            )
        };
        let owned: Vec<_> = all.iter().map(view).collect();
        let views = owned
            .iter()
            .map(|(name, data, dtype, shape)| (name, TensorView::new(*dtype, shape.clone(), data).unwrap()));
        fs::write(&self.path, safetensors::serialize(views, Some(metadata)).unwrap()).unwrap();
    }

    #[track_caller]
    fn refusal_of(about: impl FnOnce(&mut Value)) -> String {
        let setting = Self::new();
        setting.rewrite(about, |_| {});
        setting.refusal()
    }

    #[track_caller]
    fn refusal_with(edit: impl FnOnce(&mut Tensors)) -> String {
        let setting = Self::new();
        setting.rewrite(|_| {}, edit);
        setting.refusal()
    }
}

const GAPS: &str = "hidden.0.weight.gaps";
const VALUES: &str = "hidden.0.weight.values";

#[track_caller]
fn has(message: &str, part: &str) {
    assert!(message.contains(part), "`{message}` does not say `{part}`");
}

#[test]
fn a_file_cut_anywhere() {
    let setting = Setting::new();
    let bytes = fs::read(&setting.path).unwrap();
    for length in 0..bytes.len() {
        fs::write(&setting.path, &bytes[..length]).unwrap();
        let message = setting.refusal();
        assert!(message.contains("not a whole Topkast"), "{length}: {message}");
    }
}

/// Whatever bit of the file is turned, it is read or refused.
#[test]
fn a_bit_turned_anywhere() {
    for setting in [Setting::new(), Setting::text()] {
        let bytes = fs::read(&setting.path).unwrap();
        let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let header = (0..header).chain((header..bytes.len()).step_by(97));
        for at in header {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << (at % 8);
            fs::write(&setting.path, damaged).unwrap();
            let (_, allocated) = allocated_by(|| load_trained(&setting.path).map(drop).is_ok());
            assert!(allocated.largest < BOUND, "at {at}: {allocated:?}");
        }
    }
}

#[test]
fn a_header_that_claims_more_than_there_is() {
    let setting = Setting::new();
    let mut bytes = fs::read(&setting.path).unwrap();
    bytes[..8].copy_from_slice(&99_000_000_u64.to_le_bytes());
    fs::write(&setting.path, &bytes).unwrap();
    has(&setting.refusal(), "not a whole Topkast export");
    bytes[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    fs::write(&setting.path, bytes).unwrap();
    setting.refusal();
}

#[test]
fn other_formats_and_versions() {
    has(&Setting::refusal_of(|about| about["version"] = json!(2)), "written in version 2, this one reads 1");
    has(&Setting::refusal_of(|about| about["format"] = json!("dense")), "its format is `dense`");
    has(&Setting::refusal_of(|about| about["version"] = json!(-1)), "invalid value");
    has(&Setting::refusal_of(|about| about["extra"] = json!(1)), "unknown field `extra`");
    has(
        &Setting::refusal_of(|about| drop(about.as_object_mut().unwrap().remove("data"))),
        "missing field `data`",
    );
    has(&Setting::refusal_of(|about| *about = json!([])), "not a whole Topkast export");
}

#[test]
fn models_that_are_none_or_another() {
    let model = |edit: fn(&mut Value)| Setting::refusal_of(|about| edit(&mut about["model"]));
    has(&model(|model| model["hidden"] = json!([0])), "model.hidden = 0");
    has(&model(|model| model["hidden"] = json!([1_u64 << 62])), "model.hidden");
    has(
        &model(|model| model["hidden"] = json!([1 << 30])),
        "`hidden.0.weight` is [6, 64] where the network has",
    );
    has(&model(|model| model["hidden"] = json!([6, 1 << 30])), "too short for the network that it describes");
    has(&model(|model| model["hidden"] = json!([])), "no weight `hidden.0.weight` that could be sparse");
    has(&model(|model| model["kind"] = json!("resnet-from-mars")), "unknown variant");
    has(&model(|model| model["kind"] = json!("transformer-xl")), "unknown field");
    has(
        &model(|model| model["weights"] = json!("/etc/passwd")),
        "sparsity.reservoir = implicit: cannot hold",
    );
}

#[test]
fn data_that_fit_no_network() {
    let data = |edit: fn(&mut Value)| Setting::refusal_of(|about| edit(&mut about["data"]));
    has(&data(|data| data["input"] = json!([1_u64 << 40, 1_u64 << 40])), "input size is impossible");
    has(&data(|data| data["input"] = json!([0, 8])), "input size is impossible");
    has(
        &data(|data| data["input"] = json!([8, 16])),
        "`hidden.0.weight` is [6, 64] where the network has [6, 128]",
    );
    has(&data(|data| data["classes"] = json!(0)), "number of classes is impossible");
    has(&data(|data| data["classes"] = json!(1 << 30)), "too short for the network that it describes");
    has(&data(|data| data["normalizer"]["deviation"] = json!(0.0)), "deviation");
    has(
        &data(|data| *data = json!({"kind": "text", "vocabulary": "bytes", "tokens": 1, "checksum": 0})),
        "its data are not of the kind",
    );
    has(&Setting::refusal_of(|about| about["data_kind"] = json!("bytes")), "model.kind");
}

#[test]
fn sparse_weights_that_are_not_the_networks() {
    let sparse = |edit: fn(&mut Value)| Setting::refusal_of(|about| edit(&mut about["sparse"]));
    has(&sparse(|sparse| sparse["hidden.0.weight"] = json!([64, 6])), "`hidden.0.weight` is [64, 6]");
    has(&sparse(|sparse| sparse["hidden.0.weight"] = json!([])), "`hidden.0.weight` is []");
    has(&sparse(|sparse| sparse["hidden.9.weight"] = json!([6, 64])), "no weight `hidden.9.weight`");
    has(&sparse(|sparse| *sparse = json!({})), "too short");
    has(
        &sparse(|sparse| sparse["output.weight"] = json!([4, 6])),
        "tensor `output.weight.values` is missing",
    );
}

#[test]
fn gaps_that_are_no_set() {
    let gaps = |edit: fn(&mut (Dtype, Vec<usize>, Vec<u8>))| {
        Setting::refusal_with(|tensors| edit(tensors.get_mut(GAPS).unwrap()))
    };
    has(&gaps(|it| it.2[0] = 255), "tells of 75 entries, but there are 76 values");
    has(&gaps(|it| it.2[5] = 254), "goes beyond the 384 entries of the weight");
    has(&gaps(|it| (it.0, it.1) = (Dtype::I8, it.1.clone())), "must be U8, U16 or U32, not I8");
    has(&gaps(|it| (it.1[0], it.2) = (0, vec![])), "tells of 0 entries, but there are 76 values");
    let escapes = gaps(|it| {
        it.2.extend([255; 1000]);
        it.1[0] += 1000;
    });
    has(&escapes, "goes beyond the 384 entries of the weight");
    let entries = gaps(|it| {
        it.2.extend([0; 1000]);
        it.1[0] += 1000;
    });
    has(&entries, "tells of 1076 entries, but there are 76 values");
    has(
        &Setting::refusal_with(|tensors| drop(tensors.remove(GAPS))),
        "tensor `hidden.0.weight.gaps` is missing",
    );
}

#[test]
fn values_that_are_no_numbers() {
    let edit = |name: &'static str, edit: fn(&mut (Dtype, Vec<usize>, Vec<u8>))| {
        Setting::refusal_with(|tensors| edit(tensors.get_mut(name).unwrap()))
    };
    let nan: fn(&mut (Dtype, Vec<usize>, Vec<u8>)) = |it| it.2[4..8].copy_from_slice(&f32::NAN.to_le_bytes());
    has(&edit(VALUES, nan), "tensor `hidden.0.weight.values` holds NaN at 1");
    has(&edit("output.bias", nan), "tensor `output.bias` holds NaN at 1");
    has(&edit(VALUES, |it| it.0 = Dtype::I32), "must be F32, not I32");
    has(&edit(VALUES, |it| it.1 = vec![4, 19]), "must be a vector, not [4, 19]");
    has(
        &edit("output.weight", |it| it.1 = vec![6, 4]),
        "tensor `output.weight` is [6, 4] where the network has [4, 6]",
    );
    has(&edit("output.bias", |it| it.1 = vec![2, 2]), "tensor `output.bias` is [2, 2]");
    let missing = Setting::refusal_with(|tensors| drop(tensors.remove("output.bias")));
    assert!(
        missing.contains("too short") || missing.contains("tensor `output.bias` is missing"),
        "{missing}"
    );
    let more = Setting::refusal_with(|tensors| {
        tensors.insert("stowaway".to_owned(), (Dtype::U8, vec![1], vec![0]));
    });
    has(&more, "tensor `stowaway` belongs to no parameter of the network");
}

#[test]
fn language_models_that_the_file_does_not_hold() {
    let refusal = |about: fn(&mut Value)| {
        let setting = Setting::text();
        setting.rewrite(about, |_| {});
        setting.refusal()
    };
    has(&refusal(|about| about["model"]["layers"] = json!(4096)), "too short");
    has(&refusal(|about| about["model"]["layers"] = json!(1_u64 << 40)), "model.layers");
    has(&refusal(|about| about["model"]["width"] = json!(1 << 20)), "where the network has");
    has(&refusal(|about| about["model"]["heads"] = json!(5)), "model.heads = 5: must divide");
    has(&refusal(|about| about["model"]["adaptive_cutoffs"] = json!([9, 9])), "cut-off 9 must be above 9");
    has(&refusal(|about| about["data"]["vocabulary"] = json!({"words": []})), "its data are not of the kind");
    let words = refusal(|about| {
        about["data_kind"] = json!("words");
        about["data"]["vocabulary"] = json!({"words": ["a", "a"]});
    });
    has(&words, "twice");
    let none = refusal(|about| {
        about["data_kind"] = json!("words");
        about["data"]["vocabulary"] = json!({"words": []});
    });
    has(&none, "its vocabulary is empty");
}
