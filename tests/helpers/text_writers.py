"""Small copies of text data sets in the layouts of the real ones, with their checksums."""

import hashlib
import json

from benchmarks.texts.hwu64_files import HWU64_FILES


def sums_of(root, names):
    """Return {name: "sha256:<hex>"} of files below `root`."""
    return {name: f"sha256:{hashlib.sha256((root / name).read_bytes()).hexdigest()}" for name in names}


def write_clinc150(root, intents, *, n_train=3, n_test=2):
    """Write CLINC150 with these {domain: intents}; a text names intent, part and number. Return {file: checksum}."""
    folder = root / "clinc150"
    folder.mkdir(parents=True, exist_ok=True)
    everything = [intent for group in intents.values() for intent in group]
    content = {
        part: [[f"{intent} {part} {k}", intent] for intent in everything for k in range(count)]
        for part, count in (("train", n_train), ("val", 2), ("test", n_test))
    }
    content["oos_train"] = [["something else", "oos"]]
    (folder / "data_full.json").write_text(json.dumps(content))
    (folder / "domains.json").write_text(json.dumps(intents))
    return sums_of(root, ["clinc150/data_full.json", "clinc150/domains.json"])


def write_hwu64(root, *, n_train=3, n_test=2):
    """Write all 128 tables of HWU64, its real intents, with texts that name intent, part and number."""
    for name in HWU64_FILES:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        part, count = ("train", n_train) if "trainset" in name else ("test", n_test)
        scenario, _, intent = path.stem.partition("_")
        rows = [
            f'{k};{scenario};{intent};"[a : b]";"{path.stem}; {part}";"{path.stem} {part} {k}"' for k in range(count)
        ]
        header = "answerid;scenario;intent;answer_annotation;answer_from_anno;answer_from_user"
        path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return sums_of(root, HWU64_FILES)


def write_banking77(root, intents, *, n_train=3, n_test=2):
    """Write Banking77 with these intents. Return {file: checksum}, in the order of the real ones."""
    folder = root / "banking77"
    folder.mkdir(parents=True, exist_ok=True)
    for part, count in (("train", n_train), ("test", n_test)):
        rows = [f'"{intent}, {part}\n{k}",{intent}' for intent in intents for k in range(count)]
        (folder / f"{part}.csv").write_text("\n".join(["text,category", *rows]) + "\n", encoding="utf-8")
    (folder / "categories.json").write_text(json.dumps(intents))
    return sums_of(root, [f"banking77/{name}" for name in ("train.csv", "test.csv", "categories.json")])
