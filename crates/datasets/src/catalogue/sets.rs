//! The entries: sizes, hashes, splits, sources.
use super::{DataFile, Entry, HubFile, HubSet, Part};
use crate::DatasetName;

const fn file(name: &'static str, bytes: u64, sha256: &'static str) -> DataFile {
    DataFile { name, bytes, sha256 }
}

const fn whole(images: DataFile, labels: Option<DataFile>, rows: usize) -> Part {
    Part { images, labels, file_rows: rows, first: 0, rows }
}

/// The rows of `part` from `first` on, `rows` of them.
const fn rows(part: Part, first: usize, rows: usize) -> Part {
    Part { first, rows, ..part }
}

const MNIST_TRAIN: Part = whole(
    file(
        "train-images-idx3-ubyte.gz",
        9_912_422,
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    ),
    Some(file(
        "train-labels-idx1-ubyte.gz",
        28_881,
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    )),
    60_000,
);

pub(super) static MNIST: Entry = Entry {
    name: DatasetName::Mnist,
    title: "mnist",
    shape: [28, 28],
    classes: Some(10),
    licence: "CC BY-SA 3.0",
    citation: "LeCun, Cortes and Burges, The MNIST database of handwritten digits",
    mirrors: &[
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
    ],
    hub: Some(HubSet {
        repository: "ylecun/mnist",
        revision: "refs/convert/parquet",
        train: HubFile {
            path: "mnist/train/0000.parquet",
            most: 64 << 20,
            pixels_sha256: "741c988805d008ac6e4c904b69001ba184c24b2c540a4ef403f4c71b676cf757",
            labels_sha256: "1feba77c54802fa5339a11837ea4b2866434b83314ec45192930f1df69120c13",
        },
        test: HubFile {
            path: "mnist/test/0000.parquet",
            most: 64 << 20,
            pixels_sha256: "6d87418db22cc8025d05968bec9bd5c3932904b23485740db143a061a2c9d161",
            labels_sha256: "ddeff807876a9661a1110d45c266c86239a3a1b7d37da0c3716a7a683c852ff5",
        },
    }),
    train: rows(MNIST_TRAIN, 0, 50_000),
    valid: rows(MNIST_TRAIN, 50_000, 10_000),
    test: whole(
        file(
            "t10k-images-idx3-ubyte.gz",
            1_648_877,
            "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        ),
        Some(file(
            "t10k-labels-idx1-ubyte.gz",
            4_542,
            "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        )),
        10_000,
    ),
};

const FASHION_MNIST_TRAIN: Part = whole(
    file(
        "train-images-idx3-ubyte.gz",
        26_421_880,
        "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
    ),
    Some(file(
        "train-labels-idx1-ubyte.gz",
        29_515,
        "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
    )),
    60_000,
);

pub(super) static FASHION_MNIST: Entry = Entry {
    name: DatasetName::FashionMnist,
    title: "fashion-mnist",
    shape: [28, 28],
    classes: Some(10),
    licence: "MIT",
    citation: "Xiao, Rasul and Vollgraf (2017), arXiv 1708.07747",
    mirrors: &["https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/\
                 949006594cc2f804a93b9155849734564c3545ec/data/fashion/"],
    hub: None,
    train: rows(FASHION_MNIST_TRAIN, 0, 50_000),
    valid: rows(FASHION_MNIST_TRAIN, 50_000, 10_000),
    test: whole(
        file(
            "t10k-images-idx3-ubyte.gz",
            4_422_102,
            "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        ),
        Some(file(
            "t10k-labels-idx1-ubyte.gz",
            5_148,
            "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        )),
        10_000,
    ),
};

pub(super) static BINARIZED_MNIST: Entry = Entry {
    name: DatasetName::BinarizedMnist,
    title: "binarized-mnist",
    shape: [28, 28],
    classes: None,
    licence: "CC BY-SA 3.0 (derived from MNIST)",
    citation: "Salakhutdinov and Murray (2008); Larochelle and Murray (2011)",
    mirrors: &[],
    hub: None,
    train: whole(
        file(
            "train-images-idx3-ubyte.gz",
            1_844_294,
            "59cda9d4aaffb27efb941307bdec269b10d6e907bef851f37f22f9e7f8cced0c",
        ),
        None,
        50_000,
    ),
    valid: whole(
        file(
            "valid-images-idx3-ubyte.gz",
            368_995,
            "11ef6fb4d5678a0da70fbf73c023a2756ab660818870c8730c955024e9038fe7",
        ),
        None,
        10_000,
    ),
    test: whole(
        file(
            "t10k-images-idx3-ubyte.gz",
            349_419,
            "b5005df08e54802b92ea6b53c726ca7a533da5ba67f5ab51bca0f632f3f9273a",
        ),
        None,
        10_000,
    ),
};

const OMNIGLOT_TRAIN: Part = whole(
    file(
        "train-images-idx3-ubyte.gz",
        3_794_777,
        "127f59eb4c326e2a0324fb3d06a778ff0b78f8afb1190991dd98206614b74d4c",
    ),
    Some(file(
        "train-labels-idx1-ubyte.gz",
        17_354,
        "dffdb224c0f12b54a9fd8f8ee39fe6da8b2c8c4512e4e2ba765fe8fe48160015",
    )),
    24_345,
);

pub(super) static OMNIGLOT: Entry = Entry {
    name: DatasetName::Omniglot,
    title: "omniglot (reconstructed)",
    shape: [28, 28],
    classes: Some(50),
    licence: "MIT",
    citation: "Lake, Salakhutdinov and Tenenbaum (2015); 28x28 split of Burda, Grosse and \
               Salakhutdinov (2015), arXiv 1509.00519, reconstructed from the drawings",
    mirrors: &[],
    hub: None,
    train: rows(OMNIGLOT_TRAIN, 0, 23_000),
    valid: rows(OMNIGLOT_TRAIN, 23_000, 1_345),
    test: whole(
        file(
            "t10k-images-idx3-ubyte.gz",
            1_256_218,
            "c0c1266adef0fd1354715edb5337a449be24179a72ca4367652534b4a7aba157",
        ),
        Some(file(
            "t10k-labels-idx1-ubyte.gz",
            5_773,
            "88a297272dacac2da2a2a6915f72145b68ed55b8798e85aaa435140453881f33",
        )),
        8_070,
    ),
};
