//! The data sets that there are official homes of.

use topkast_train::{config::DataKind, data, text};

use super::checksum::Checksum;

/// A data set and where to get it.
pub(super) struct KnownSet {
    pub(super) name: &'static str,
    /// What it is.
    pub(super) about: &'static str,
    /// How a config calls it.
    pub(super) kind: DataKind,
    /// Where its files are: each one's name follows.
    pub(super) home: &'static str,
    pub(super) files: &'static [KnownFile],
}

/// A file of it.
pub(super) struct KnownFile {
    pub(super) name: &'static str,
    /// In bytes, where it is known.
    pub(super) size: Option<u64>,
    pub(super) checksum: Checksum,
}

const fn file(name: &'static str, size: u64, checksum: Checksum) -> KnownFile {
    KnownFile { name, size: Some(size), checksum }
}

/// MD5 sums are those that the authors publish; none here is of our own making.
pub(super) const KNOWN: [KnownSet; 5] = [
    KnownSet {
        name: "fashion-mnist",
        about: "70,000 grey pictures of clothing, 28x28, 10 classes",
        kind: DataKind::Images(data::Kind::FashionMnist),
        home: "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        files: &[
            file("train-images-idx3-ubyte.gz", 26_421_880, Checksum::Md5("8d4fb7e6c68d591d4c3dfef9ec88bf0d")),
            file("train-labels-idx1-ubyte.gz", 29_515, Checksum::Md5("25c81989df183df01b3e8a0aad5dffbe")),
            file("t10k-images-idx3-ubyte.gz", 4_422_102, Checksum::Md5("bef4ecab320f06d8554ea6380940ec79")),
            file("t10k-labels-idx1-ubyte.gz", 5_148, Checksum::Md5("bb300cfdad3c16e7a12a480ee83cd310")),
        ],
    },
    KnownSet {
        name: "mnist",
        about: "70,000 grey pictures of digits, 28x28, 10 classes",
        kind: DataKind::Images(data::Kind::Mnist),
        home: "https://ossci-datasets.s3.amazonaws.com/mnist/",
        files: &[
            file("train-images-idx3-ubyte.gz", 9_912_422, Checksum::Md5("f68b3c2dcbeaaa9fbdd348bbdeb94873")),
            file("train-labels-idx1-ubyte.gz", 28_881, Checksum::Md5("d53e105ee54ea40749a09fcbcd1e9432")),
            file("t10k-images-idx3-ubyte.gz", 1_648_877, Checksum::Md5("9fb629c4189551a2d022fa330f9573f3")),
            file("t10k-labels-idx1-ubyte.gz", 4_542, Checksum::Md5("ec29112dd5afa0611ce80d1b7f02629c")),
        ],
    },
    KnownSet {
        name: "cifar10",
        about: "60,000 pictures in colour, 32x32, 10 classes",
        kind: DataKind::Images(data::Kind::Cifar10),
        home: "https://www.cs.toronto.edu/~kriz/",
        files: &[file(
            "cifar-10-binary.tar.gz",
            170_052_171,
            Checksum::Md5("c32a1d4ab5d03f1284b67883e8d87530"),
        )],
    },
    KnownSet {
        name: "cifar100",
        about: "60,000 pictures in colour, 32x32, 100 classes",
        kind: DataKind::Images(data::Kind::Cifar100),
        home: "https://www.cs.toronto.edu/~kriz/",
        files: &[KnownFile {
            name: "cifar-100-binary.tar.gz",
            size: None,
            checksum: Checksum::Md5("03b5dce01913d631647c71ecec9e9cb8"),
        }],
    },
    KnownSet {
        name: "enwik8",
        about: "the first 10^8 bytes of an English Wikipedia of 2006",
        kind: DataKind::Text(text::Kind::Bytes),
        home: "https://mattmahoney.net/dc/",
        files: &[file("enwik8.zip", 36_445_475, Checksum::None)],
    },
];
