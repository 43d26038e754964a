"""Faults and bad inputs, and where each is tested.

| fault | tests |
| --- | --- |
| 1 damaged gzip files | `test_corrupt_files`, `test_data.test_damaged_files_…` |
| 2 bombs and forged headers | `test_bombs` |
| 3 wrong, swapped or contradictory files | `test_data.test_swapped_…`, `….test_mnist_in_…` |
| 4 degenerate data and confusions | `test_degenerate`, `test_plan`, `test_report` |
| 5 confusions of the test set | `test_degenerate`, `test_comparison.test_noise_in_place_…` |
| 6 numbers that are not finite | `test_not_finite` |
| 7 disk full, input/output errors | `test_failing_io` |
| 8 kill -9 | `test_kill` |
| 9 SIGINT once and twice, SIGTERM | `test_signals`, `test_cli.test_a_signal_ends_cleanly_…` |
| 10 two runs in one folder, foreign files | `test_folders`, `test_comparison.test_starting_…` |
| 11 read-only folders, links | `test_folders` |
| 12 unusual paths, LANG=C | `test_hostile_names` |
| 13 hostile checkpoints | `test_hostile_checkpoints` |
| 14 hostile names in page and terminal | `test_hostile_names`, `test_report.test_hostile_names_…` |
| 15 cells that a spreadsheet would run | `test_hostile_names` |
| 16 repeatability, closed stdout | `test_repeatability`, `test_signals`, `test_augment` |
| 17 no network | `test_offline`; every test through `conftest.no_network` |
"""
