"""Data sets of labelled texts that several streams are made of."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from benchmarks.texts.hwu64_files import HWU64_FILES
from cl_suite import DataRoot, LabelledTexts, fetch_files, read_rows

# sha256 of the files of github.com/clinc/oos-eval at the commit they are fetched from.
CLINC150_FILES = {
    "clinc150/data_full.json": "sha256:36923c3705a59e08fe9c3883d8bc2dd966ef93e22cb78ac41171782a698d56e0",
    "clinc150/domains.json": "sha256:b947b579d3b8e74b06f93b01083d8efaff2888b43a3e362533bd88a6e1211b3a",
}
CLINC150_ADDRESS = "https://raw.githubusercontent.com/clinc/oos-eval/828f8093932c8fe6ca7936c3d2e52903b1c523de/data"
HWU64_ADDRESS = (
    "https://raw.githubusercontent.com/xliuhw/NLU-Evaluation-Data/f6071b496b17d71e6eb43f543af0707f4ff30557/"
    "CrossValidation/autoGeneFromRealAnno/autoGene_2018_03_22-13_01_25_169/CrossValidation"
)
HWU64_COLUMNS = ("answerid", "scenario", "intent", "answer_annotation", "answer_from_anno", "answer_from_user")
HWU64_PARTS = {"train": "hwu64/KFold_1/trainset", "test": "hwu64/KFold_1/testset/csv"}


def read_clinc150(root: DataRoot, files: Mapping[str, str] = CLINC150_FILES) -> LabelledTexts:
    """Verify and read CLINC150: 150 intents in 10 domains, 100 training and 30 test texts each.

    The 20 validation texts an intent has besides are left out, and of those out of scope all but the 1,000 for tests.
    files: {data_full.json, domains.json: checksum}, in this order; what is absent is downloaded

    Raise DataError where files are absent or altered.
    """
    addresses = {name: f"{CLINC150_ADDRESS}/{Path(name).name}" for name in files}
    paths = root.verified(files, what="CLINC150", download=lambda folder: fetch_files(folder, addresses))
    content, domains = (json.loads(path.read_text(encoding="utf-8")) for path in paths.values())
    train, test = ([(text, intent) for text, intent in content[part]] for part in ("train", "test"))
    return LabelledTexts(train, test, domains, [text for text, _ in content.get("oos_test", ())])


def read_hwu64(root: DataRoot, files: Mapping[str, str] = HWU64_FILES) -> LabelledTexts:
    """Verify and read HWU64: fold 1 of the authors' ten; an intent is called <scenario>_<intent>.

    files: {<part>/<intent>.csv: checksum}; the texts are as the users wrote them; what is absent is downloaded

    Raise DataError where files are absent or altered.
    """
    addresses = {name: f"{HWU64_ADDRESS}/{name.removeprefix('hwu64/')}" for name in files}
    paths = root.verified(files, what="HWU64", download=lambda folder: fetch_files(folder, addresses))
    parts: dict[str, list[tuple[str, str]]] = {part: [] for part in HWU64_PARTS}
    groups: dict[str, list[str]] = {}
    for part, folder in HWU64_PARTS.items():
        for name in sorted(name for name in paths if name.startswith(folder)):
            for _, (_, scenario, intent, _, _, text) in list(read_rows(paths[name], HWU64_COLUMNS, delimiter=";"))[1:]:
                label = f"{scenario}_{intent}"
                parts[part].append((text, label))
                known = groups.setdefault(scenario, [])
                if label not in known:
                    known.append(label)
    return LabelledTexts(parts["train"], parts["test"], groups)
