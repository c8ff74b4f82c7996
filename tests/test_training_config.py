"""Training configurations: the fields, their errors, overrides, names and copies."""

import json

import pytest
from training_helpers import TINY, one_line, tiny

pytest.importorskip("pydantic", reason="needs the extra `train`")

from codec_cli.errors import TrainingError
from codec_cli.training import checkpoint
from codec_cli.training.config import Config, config_names, load_config


def leaves(tree, path=()):
    """Yields every scalar of a configuration with its dotted name."""
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
        if isinstance(value, dict | list):
            yield from leaves(value, (*path, str(key)))
        else:
            yield ".".join((*path, str(key))), value


FIELDS = dict(leaves(tiny().model_dump(mode="json")))


# Errors


@pytest.mark.parametrize("field", FIELDS)
def test_every_field_is_named_when_it_has_the_wrong_type(field, tmp_path):
    path = tmp_path / "config.json"
    path.write_text(tiny().to_json())  # With every default written out.
    with pytest.raises(TrainingError) as error:
        load_config(str(path), [f'{field}={{"no": "such thing"}}'])
    assert field in one_line(error)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("name=Not a name", "name"),
        ("seed=-1", "seed"),
        ("seed=2147483648", "seed"),
        ("transforms.channels=2", "transforms.channels"),
        ("transforms.latent_channels=0", "transforms.latent_channels"),
        ("transforms.latent_channels=769", "latent_channels can't exceed"),
        ("transforms.slope=1", "transforms.slope"),
        ("transforms.analysis=[]", "transforms.analysis"),
        ("transforms.analysis.1.stride=1", "transforms.analysis.1.stride"),
        ("transforms.analysis.1.stride=2", "analysis and synthesis must have the same total stride"),
        ("transforms.analysis.0.blocks=-1", "transforms.analysis.0.blocks"),
        ("transforms.synthesis.1.width=13", "synthesis widths must be even"),
        ("entropy.kind=hyperprior", "entropy.kind"),
        ("entropy.context.groups=[24, 1]", "entropy.context.groups must sum to transforms.latent_channels"),
        ("entropy.context.groups=[0, 24]", "entropy.context.groups.0"),
        ("entropy.context.hidden=0", "entropy.context.hidden"),
        ("entropy.filters=[3, 0]", "entropy.filters.1"),
        ("levels.lambdas=[]", "lambdas must rise strictly"),
        ("levels.lambdas=[0.2, 0.1, 0.3]", "lambdas must rise strictly"),
        ("levels.lambdas=[0.1, 0.1, 0.3]", "lambdas must rise strictly"),
        ("levels.lambdas=[0, 0.1, 0.3]", "levels.lambdas.0"),
        ("levels.lambdas=[0.1, 0.2, NaN]", "levels.lambdas.2"),
        ("levels.between=200", "at most 255 usable levels"),
        ("levels.weight_power=NaN", "levels.weight_power"),
        ("losses=[]", "losses"),
        ('losses=[{"name": "psnr"}]', "losses.0.name"),
        ('losses=[{"name": "ms_ssim"}]', "data.crop must be at least 176 for the loss ms_ssim"),
        ('losses=[{"name": "mse", "weights": "alex.npz"}]', "mse has no network"),
        ('losses=[{"name": "mse", "weight": -1}]', "losses.0.weight"),
        ("optimizer.learning_rate=0", "optimizer.learning_rate"),
        ("optimizer.learning_rate=Infinity", "optimizer.learning_rate"),
        ("optimizer.decay_start=1.1", "optimizer.decay_start"),
        ("optimizer.beta1=1", "optimizer.beta1"),
        ("optimizer.beta2=-0.1", "optimizer.beta2"),
        ("optimizer.clip_norm=0", "optimizer.clip_norm"),
        ("optimizer.ema=1", "optimizer.ema"),
        ("optimizer.warmup_steps=-1", "optimizer.warmup_steps"),
        ("optimizer.multipliers.gain/=0", "optimizer.multipliers.gain/"),
        ("data.crop=60", "data.crop must be a multiple of the stride 16"),
        ("data.batch=4", "data.batch must be a multiple of the number of levels"),
        ("data.min_scale=0", "data.min_scale"),
        ("data.min_scale=1.5", "data.min_scale"),
        ("data.cache_patches=0", "data.cache_patches"),
        ("data.path=7", "data.path"),
        ("run.steps=0", "run.steps"),
        ("run.steps=1.5", "run.steps"),
        ("run.precision=float64", "run.precision"),
        ("run.decoder_rounding=2", "run.decoder_rounding"),
        ("run.checkpoint_minutes=0", "run.checkpoint_minutes"),
        ("run.validate_steps=0", "run.validate_steps"),
        ("run.validation_images=0", "run.validation_images"),
        ("run.jit=perhaps", "run.jit"),
        ("run.step=5", "run.step"),
        ("optimiser.learning_rate=1", "optimiser"),
    ],
)
def test_a_wrong_value_names_its_field_in_one_line(change, named):
    with pytest.raises(TrainingError) as error:
        tiny(change)
    text = one_line(error)
    assert text.startswith(str(TINY))
    assert named in text


def test_all_errors_are_told_at_once():
    with pytest.raises(TrainingError) as error:
        tiny("run.steps=0", "data.crop=-16", "optimizer.ema=7")
    text = one_line(error)
    assert all(field in text for field in ("run.steps", "data.crop", "optimizer.ema"))


@pytest.mark.parametrize("field", ["name", "transforms", "levels"])
def test_what_has_no_default_is_missed(tmp_path, field):
    tree = json.loads(TINY.read_text())
    del tree[field]
    path = tmp_path / "config.json"
    path.write_text(json.dumps(tree))
    with pytest.raises(TrainingError, match=f"{field}: Field required") as error:
        load_config(str(path))
    one_line(error)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not valid JSON"),
        (b'{"name": "a",}', "not valid JSON"),
        (b"\xff\xfe{}", "not valid JSON"),
        (b"[]", "expected a JSON object"),
        (b"3", "expected a JSON object"),
        (b"null", "expected a JSON object"),
    ],
)
def test_what_is_no_configuration(tmp_path, content, reason):
    path = tmp_path / "config.json"
    path.write_bytes(content)
    for overrides in ([], ["run.steps=5"]):
        with pytest.raises(TrainingError, match=reason) as error:
            load_config(str(path), overrides)
        assert one_line(error).startswith(str(path))


@pytest.mark.parametrize("name", ["no-such", "folder/no-such.json"])
def test_an_unknown_name_lists_the_known_ones(name):
    with pytest.raises(TrainingError) as error:
        load_config(name)
    text = one_line(error)
    assert text.startswith(f"{name}: no such configuration")
    assert all(known in text for known in config_names())


def test_a_directory_is_no_configuration(tmp_path):
    with pytest.raises(TrainingError, match="no such configuration") as error:
        load_config(str(tmp_path))
    one_line(error)


# Overrides


@pytest.mark.parametrize(
    ("change", "read", "value"),
    [
        ("run.steps=77", lambda c: c.run.steps, 77),
        ("optimizer.learning_rate=1e-4", lambda c: c.optimizer.learning_rate, 1e-4),
        ("run.jit=true", lambda c: c.run.jit, True),
        ("name=other", lambda c: c.name, "other"),
        ('name="other"', lambda c: c.name, "other"),
        ("data.path=some/where", lambda c: c.data.path, "some/where"),
        ("data.path=a=b", lambda c: c.data.path, "a=b"),
        ('data.path="2024"', lambda c: c.data.path, "2024"),
        ("data.path=null", lambda c: c.data.path, None),
        ("data.path=", lambda c: c.data.path, ""),
        ("levels.lambdas=[0.1, 0.2]", lambda c: c.levels.lambdas, [0.1, 0.2]),
        ("levels.lambdas.1=0.05", lambda c: c.levels.lambdas, [0.002, 0.05, 0.2]),
        ("transforms.analysis.0.width=20", lambda c: [s.width for s in c.transforms.analysis], [20, 24]),
        ('levels={"lambdas": [1, 2]}', lambda c: c.levels.usable, 7),
        ("optimizer.multipliers.prior/=5", lambda c: c.optimizer.multipliers, {"prior/": 5}),
        ('losses=[{"name": "mae"}]', lambda c: c.losses[0].name, "mae"),
    ],
)
def test_overrides(change, read, value):
    assert read(tiny(change)) == value
    # Nothing else changes.
    before, after = tiny().model_dump(mode="json"), tiny(change).model_dump(mode="json")
    section = change.partition("=")[0].partition(".")[0]
    del before[section], after[section]
    assert before == after


def test_later_overrides_win():
    assert tiny("run.steps=5", "run.steps=6").run.steps == 6


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("run.steps", "write it as section.field=value"),
        ("", "write it as section.field=value"),
        ("name.first=3", "name is not a section"),
        ("run.steps.more=3", "steps is not a section"),
        ("levels.lambdas.3=0.5", "3 is no entry of a list of 3"),
        ("levels.lambdas.x=0.5", "x is no entry of a list of 3"),
        ("levels.lambdas.-1=0.5", "-1 is no entry of a list of 3"),
        ("transforms.analysis.7.width=8", "7 is no entry of a list of 2"),
        ("transforms.analysis.first.width=8", "first is no entry of a list of 2"),
        ("=3", "Extra inputs are not permitted"),
    ],
)
def test_overrides_that_lead_nowhere(change, reason):
    with pytest.raises(TrainingError) as error:
        tiny(change)
    assert reason in one_line(error)


# Names and copies


@pytest.mark.parametrize("name", config_names())
def test_packaged_configurations(name):
    config = load_config(name)
    assert config.name == name
    if config.transforms.kind == "stages":
        assert config.transforms.stride == 16
        assert config.levels.usable >= 32
    assert config.data.path is None  # Comes from the command line: no machine has the same directories.


def test_the_packaged_names():
    assert {"photo", "photo-factorized"} <= set(config_names())
    assert load_config("photo").entropy.kind == "context"
    assert load_config("photo-factorized").entropy.kind == "factorized"


@pytest.mark.parametrize("name", [*config_names(), str(TINY)])
def test_a_copy_reads_back_equal(tmp_path, name):
    config = load_config(name, ["optimizer.learning_rate=1.2345678901e-4", "data.path=größe/ä b"])
    checkpoint.save_run_config(tmp_path, config)
    again = checkpoint.load_run_config(tmp_path)
    assert again == config
    assert again.to_json() == config.to_json()
    assert Config.model_validate_json(config.to_json()) == config


def test_overrides_of_a_run_leave_its_copy_alone(tmp_path):
    checkpoint.save_run_config(tmp_path, tiny())
    assert checkpoint.load_run_config(tmp_path, ["run.steps=5"]).run.steps == 5
    assert checkpoint.load_run_config(tmp_path) == tiny()


def test_a_directory_without_a_run(tmp_path):
    with pytest.raises(TrainingError, match="holds no run") as error:
        checkpoint.load_run_config(tmp_path)
    one_line(error)


def test_a_configuration_can_not_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        tiny().run.steps = 3


def test_usable_levels():
    assert tiny().levels.usable == 7
    assert tiny("levels.lambdas=[1]", "data.batch=5").levels.usable == 1
    assert tiny("levels.between=0").levels.usable == 3
