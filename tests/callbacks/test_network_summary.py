from callbacks import NetworkSummary


def test_it_names_networks_and_what_is_trained(capsys):
    columns = [
        ("Name", ["validation", "policy", "ref"]), ("Type", ["Validation", "Qwen", "Qwen"]),
        ("Params", ["0     ", "1.4 M ", "1.4 M "]), ("FLOPs", ["0", "0", "0"]),
    ]  # fmt: skip
    NetworkSummary.summarize(columns, 2_800_000, 1_400_000, 11.2, {"train": 3}, 0)
    assert capsys.readouterr().out == (
        "parameters: policy 1.4 M, ref 1.4 M; 1.4 M of 2.8 M trained\n"
    )
