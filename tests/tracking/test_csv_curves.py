from lit_vdistill.tracking.csv_curves import CSVCurves


def test_no_run_deletes_the_curves_of_another(tmp_path):
    for value in (1.0, 2.0, 3.0):
        logger = CSVCurves(str(tmp_path), name="", version="csv")
        logger.log_metrics({"loss": value}, step=0)
        logger.save()
    files = {path.name: path.read_text().split() for path in (tmp_path / "csv").glob("*.csv")}
    assert files == {
        "metrics.1.csv": ["loss,step", "1.0,0"],
        "metrics.2.csv": ["loss,step", "2.0,0"],
        "metrics.csv": ["loss,step", "3.0,0"],
    }
