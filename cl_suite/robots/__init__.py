"""Robot tasks: simulators in processes of their own, rollouts, scripted demonstrations, instructions."""
