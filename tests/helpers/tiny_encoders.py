"""A tiny BERT with random weights and a vocabulary of words, saved as a folder: nothing is downloaded."""

from pathlib import Path


def save_encoder(folder: Path, words, *, seed=0, places=64, tokenizer=True):
    """Save an encoder of 16 dimensions that knows `words`; return the folder's path as text."""
    import torch
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from tokenizers.processors import TemplateProcessing
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    known = {word: number for number, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *sorted(set(words))])}
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(known),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=places,
    )
    BertModel(config).save_pretrained(folder)
    if tokenizer:
        words_in = Tokenizer(WordLevel(known, unk_token="[UNK]"))
        words_in.pre_tokenizer = Whitespace()
        words_in.post_processor = TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=[("[CLS]", known["[CLS]"]), ("[SEP]", known["[SEP]"])]
        )
        PreTrainedTokenizerFast(
            tokenizer_object=words_in,
            pad_token="[PAD]",
            unk_token="[UNK]",
            cls_token="[CLS]",
            sep_token="[SEP]",
            model_max_length=places,
        ).save_pretrained(folder)
    return str(folder)
