"""Activations read and changed by hooks: they are the model's own, and only what a tap returns changes anything."""

import pytest
import torch

from analysis.hooks import Site, n_layers, recorded, taps, unembed
from model.errors import TraceError
from tests.analysis.test_hooks import N, build, n_hooks


@pytest.fixture(scope="module")
def ids() -> torch.Tensor:
    return torch.randint(0, 97, (1, N), generator=torch.Generator().manual_seed(1))


@pytest.fixture
def sound(tiny_loaded, heard) -> dict:
    batch = tiny_loaded.processor(heard)
    return {name: batch[name] for name in ("input_ids", "wavs", "wav_lens")}


def all_sites(model, *, part: str = "decoder") -> list[Site]:
    names = "resid_pre resid_mid resid_post attn_out mlp_out mlp_post z".split()
    names += ["q", "k", "v"] if part == "decoder" else []
    return [Site(name, layer, part) for name in names for layer in range(n_layers(model, part))]


def test_decoder_sites_add_up_as_their_names_say(ids):
    """The picture of `hooks.py`, checked: what flows in, what is added, and how heads and neurons are folded."""
    model = build()
    with torch.inference_mode(), recorded(model, all_sites(model)) as seen:
        states = model(input_ids=ids, output_hidden_states=True).hidden_states
    for layer, block in enumerate(model.model.layers):
        at = {name: seen[Site(name, layer)] for name in {site.name for site in seen}}
        torch.testing.assert_close(at["resid_pre"], states[layer], rtol=0, atol=0)
        torch.testing.assert_close(at["resid_pre"] + at["attn_out"], at["resid_mid"], rtol=0, atol=0)
        torch.testing.assert_close(at["resid_mid"] + at["mlp_out"], at["resid_post"], rtol=0, atol=0)
        assert at["q"].shape == at["z"].shape == (1, N, 4, 8) and at["k"].shape == at["v"].shape == (1, N, 2, 8)
        assert at["mlp_post"].shape == (1, N, 48)
        with torch.inference_mode():
            torch.testing.assert_close(block.self_attn.o_proj(at["z"].flatten(-2)), at["attn_out"])
            torch.testing.assert_close(block.mlp.down_proj(at["mlp_post"]), at["mlp_out"])


def test_encoder_and_adaptor_sites(tiny_loaded, sound):
    model = tiny_loaded.model
    sites = [*all_sites(model, part="encoder"), Site("out", part="encoder"), Site("out", part="adaptor")]
    states: list = []
    with torch.inference_mode(), recorded(model, sites) as seen:
        features = model.get_audio_features(sound["wavs"], sound["wav_lens"])
        out, _ = model.encoder(sound["wavs"], sound["wav_lens"], hidden_states=states)
        at = {
            name: seen[Site(name, 0, "encoder")] for name in ("resid_pre", "resid_mid", "resid_post", "attn_out", "z")
        }
        torch.testing.assert_close(model.encoder.blocks[0].attn.out(at["z"].flatten(-2)), at["attn_out"])
    torch.testing.assert_close(seen[Site("out", part="encoder")], out)
    torch.testing.assert_close(at["resid_pre"], states[0])
    torch.testing.assert_close(at["resid_post"], states[1])
    torch.testing.assert_close(at["resid_pre"] + at["attn_out"], at["resid_mid"])
    mapped = seen[Site("out", part="adaptor")]
    for clip, feature in zip(mapped, features):
        torch.testing.assert_close(clip[: len(feature)], feature)


def test_looking_changes_nothing_and_nothing_stays(ids):
    """Law 6, for every site at once."""
    model = build()
    with torch.inference_mode():
        before = model(input_ids=ids).logits
        with recorded(model, all_sites(model)):
            assert torch.equal(before, model(input_ids=ids).logits)
        with pytest.raises(KeyboardInterrupt), recorded(model, all_sites(model)):
            raise KeyboardInterrupt
    assert n_hooks(model) == 0


def test_looking_changes_nothing_in_the_encoder(tiny_loaded, sound):
    model = tiny_loaded.model
    hooked = n_hooks(model)
    with torch.inference_mode():
        before = model(**sound).logits
        with recorded(model, [*all_sites(model), *all_sites(model, part="encoder"), Site("out", part="adaptor")]):
            assert torch.equal(before, model(**sound).logits)
    assert n_hooks(model) == hooked


@pytest.mark.parametrize("name", "resid_pre resid_mid resid_post attn_out mlp_out mlp_post q k v z".split())
def test_what_a_tap_returns_takes_the_place(ids, name):
    """The same value changes no bit; another one changes later positions and later layers, and no earlier ones."""
    model, site = build(), Site(name, 1)
    with torch.inference_mode():
        before = model(input_ids=ids).logits
        with taps(model, {site: torch.clone}):
            assert torch.equal(before, model(input_ids=ids).logits)

        def louder(activation: torch.Tensor) -> torch.Tensor:
            changed = activation.clone()
            changed[:, 9] *= 3
            return changed

        with taps(model, {site: louder}), recorded(model, [Site("resid_post", 0)]) as seen:
            after = model(input_ids=ids).logits
        with recorded(model, [Site("resid_post", 0)]) as unchanged:
            model(input_ids=ids)
    assert torch.equal(before[:, :9], after[:, :9]) and not torch.equal(before[:, 9:], after[:, 9:])
    assert torch.equal(seen[Site("resid_post", 0)], unchanged[Site("resid_post", 0)])


@pytest.mark.parametrize("name", ["resid_pre", "resid_post", "mlp_post", "z"])
def test_one_run_may_become_many(ids, name):
    """A tap may return more rows than it was given; each goes on as if it ran alone."""
    model, site, factors = build(), Site(name, 1), (0.0, 1.0, 2.0)
    with torch.inference_mode():
        with taps(model, {site: lambda x: torch.cat([x * factor for factor in factors])}):
            together = model(input_ids=ids, use_cache=False).logits
        for row, factor in zip(together, factors):
            with taps(model, {site: lambda x, factor=factor: x * factor}):
                torch.testing.assert_close(row, model(input_ids=ids).logits[0], atol=2e-5, rtol=1e-4)


def test_unembedding_the_last_residual_gives_the_logits(ids):
    model = build()
    with torch.inference_mode(), recorded(model, [Site("resid_post", 2)]) as seen:
        logits = model(input_ids=ids).logits
        assert torch.equal(unembed(model, seen[Site("resid_post", 2)]), logits)


@pytest.mark.parametrize(
    ("site", "message"),
    [
        (Site("resid", 0), "a site"),
        (Site("z", 3), "decoder layer 3.*layers 0 to 2"),
        (Site("out", part="adaptor"), "without adaptor"),
    ],
)
def test_sites_that_are_not_there_are_refused(site, message):
    with pytest.raises(TraceError, match=message), taps(build(), {site: torch.clone}):
        pass
