"""The same topics in two data sets of requests to an assistant: does what was learned of one crowd hold for another?"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from benchmarks.texts.data_sets import CLINC150_FILES, read_clinc150, read_hwu64
from benchmarks.texts.hwu64_files import HWU64_FILES
from cl_suite import (
    DataRoot,
    LabelledTexts,
    PrepareTexts,
    Scenario,
    Seeds,
    Stream,
    StreamData,
    StreamFacts,
    StreamSizes,
    TaskData,
    check_choices,
    text_tasks,
)

# Topics that both data sets ask about, with the intents that belong to them; chosen by their names and their texts.
TOPICS: dict[str, dict[str, tuple[str, ...]]] = {
    "alarm": {"clinc150": ("alarm",), "hwu64": ("alarm_set", "alarm_query", "alarm_remove")},
    "calendar": {
        "clinc150": ("calendar", "calendar_update", "meeting_schedule", "schedule_meeting"),
        "hwu64": ("calendar_set", "calendar_query", "calendar_remove"),
    },
    "lists": {
        "clinc150": ("todo_list", "todo_list_update", "shopping_list", "shopping_list_update"),
        "hwu64": ("lists_query", "lists_createoradd", "lists_remove"),
    },
    "music": {
        "clinc150": ("play_music", "next_song", "what_song", "update_playlist"),
        "hwu64": ("play_music", "music_query", "music_likeness", "music_settings"),
    },
    "weather": {"clinc150": ("weather",), "hwu64": ("weather_query",)},
    "time": {"clinc150": ("time", "date", "timezone"), "hwu64": ("datetime_query", "datetime_convert")},
    "volume": {
        "clinc150": ("change_volume",),
        "hwu64": ("audio_volume_up", "audio_volume_down", "audio_volume_mute"),
    },
    "cooking": {"clinc150": ("recipe", "ingredients_list"), "hwu64": ("cooking_recipe",)},
    "traffic": {"clinc150": ("traffic",), "hwu64": ("transport_traffic",)},
    "taxi": {"clinc150": ("uber",), "hwu64": ("transport_taxi",)},
    "currency": {"clinc150": ("exchange_rate",), "hwu64": ("qa_currency",)},
    "definition": {"clinc150": ("definition",), "hwu64": ("qa_definition",)},
    "maths": {"clinc150": ("calculator",), "hwu64": ("qa_maths",)},
    "joke": {"clinc150": ("tell_joke",), "hwu64": ("general_joke",)},
}


class IntentSources(Stream):
    """The same 14 topics asked by the crowds of two data sets: CLINC150, then HWU64. Domain-incremental.

    A topic is one intent or several that mean the same in both; topics are not equally frequent in HWU64.
    """

    facts = StreamFacts(
        modality="texts",
        citation=(
            "Larson et al. 2019 (CLINC150; github.com/clinc/oos-eval) and Liu et al. 2019 (HWU64; "
            "github.com/xliuhw/NLU-Evaluation-Data, fold 1)"
        ),
        source="the topics are cl-suite's own choice",
        licence="CC BY 3.0 (CLINC150), CC BY 4.0 (HWU64)",
        scenarios=(
            Scenario.DOMAIN_INCREMENTAL,
            Scenario.TASK_INCREMENTAL,
            Scenario.CLASS_INCREMENTAL,
            Scenario.TASK_AGNOSTIC,
        ),
        sizes=StreamSizes(tasks=2, classes=14, classes_per_task=14, train=6_560, test=1_208),
    )
    clinc150_files: ClassVar[Mapping[str, str]] = CLINC150_FILES
    hwu64_files: ClassVar[Mapping[str, str]] = HWU64_FILES

    @dataclass
    class Config:
        """In which order."""

        first: str = "clinc150"  # clinc150 or hwu64: the task that comes first

    def load(self, root: DataRoot, seeds: Seeds) -> StreamData:
        """Verify, read, and put the topics in place of the intents."""
        check_choices(self.config, {"first": ("clinc150", "hwu64")}, group="stream")
        read = self.read(root)
        names = [self.config.first, *(name for name in read if name != self.config.first)]
        tasks: list[TaskData] = []
        for name in names:
            topic_of = {intent: topic for topic, intents in TOPICS.items() for intent in intents[name]}
            train, test = (
                [(text, topic_of[intent]) for text, intent in part if intent in topic_of]
                for part in (read[name].train, read[name].test)
            )
            tasks += text_tasks(LabelledTexts(train, test, {name: list(TOPICS)}), what=name)
        return StreamData(tuple(tasks), PrepareTexts(), labels="shared", checksums=self.files())

    def read(self, root: DataRoot) -> dict[str, LabelledTexts]:
        """Verify and read both. Raise DataError where files are absent or wrong."""
        return {"clinc150": read_clinc150(root, self.clinc150_files), "hwu64": read_hwu64(root, self.hwu64_files)}

    def checksums(self) -> Mapping[str, str]:
        """Return {file: checksum} of both, as published."""
        return self.files()

    def files(self) -> dict[str, str]:
        """Return {file: checksum} of both."""
        return {**self.clinc150_files, **self.hwu64_files}

    def fetch(self, root: DataRoot) -> Mapping[str, str]:
        """Download what is absent and verify everything."""
        self.read(root)
        return self.files()
