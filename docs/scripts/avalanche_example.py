"""An ordinary script for Avalanche; only its benchmark is one of cl-suite's.

python docs/scripts/avalanche_example.py
"""

import torch
from avalanche.evaluation.metrics import accuracy_metrics, forgetting_metrics
from avalanche.logging import InteractiveLogger
from avalanche.models import SimpleMLP
from avalanche.training.plugins import EvaluationPlugin
from avalanche.training.supervised import Replay
from torch.nn import CrossEntropyLoss
from torch.optim import SGD

from cl_suite.avalanche import matrix_from_avalanche, to_avalanche

torch.manual_seed(0)
benchmark = to_avalanche("split_digits", "class_incremental")

model = SimpleMLP(num_classes=benchmark.n_classes, input_size=64)
evaluator = EvaluationPlugin(
    accuracy_metrics(experience=True, stream=True), forgetting_metrics(stream=True), loggers=[InteractiveLogger()]
)
strategy = Replay(
    model=model,
    optimizer=SGD(model.parameters(), lr=0.01, momentum=0.9),
    criterion=CrossEntropyLoss(),
    mem_size=200,
    train_mb_size=32,
    train_epochs=3,
    eval_mb_size=64,
    evaluator=evaluator,
)

results = []
for experience in benchmark.train_stream:
    strategy.train(experience)
    results.append(strategy.eval(benchmark.test_stream))

R = matrix_from_avalanche(results)
print("R[i][j], the accuracy on task j after experience i:")
for row in R:
    print("  ".join(f"{score:.2f}" for score in row))
