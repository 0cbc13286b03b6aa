# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Tests of the documented YAML files, which must be read as they stand."""

import dataclasses
import re

import pytest
from astropy import log
from astropy import units as u

from ccdcr import ObservingBlock, Requirements, UnknownRequirementError

FRAMES = (
    "0003978527-20231115-MEGARA-MegaraLcbImage.fits",
    "0003978528-20231115-MEGARA-MegaraLcbImage.fits",
    "0003978529-20231115-MEGARA-MegaraLcbImage.fits",
)
FRAME_LINES = "\n".join(f" - {name}" for name in FRAMES)
REQUIREMENT_LINES = """\
requirements:
  crmethod: mm_lacosmic             # lacosmic | mmcosmic | mm_lacosmic
  use_lamedian: False               # use LAMEDIAN insteand of minimum value
  interactive: True                 # display and pause between plots
  flux_factor: none                 # none | auto | [list of values]
  flux_factor_regions:              # list of regions, FITS criterium
  # - [xmin, xmax, ymin, ymax]      # <-- format (no need to uncomment this)
  apply_flux_factor_to: simulated   # original | simulated (data)
  dilation: 1                       # dilation around suspected pixels (integer)
  regions_to_be_skipped:            # list of regions, FITS criterium
  # - [xmin, xmax, ymin, ymax]      # <-- format (no need to uncomment this)
  pixels_to_be_flagged_as_cr:       # FITS criterium, first pixel is [1, 1]
  # - [X, Y]                        # <-- format (no need to uncomment this)
  pixels_to_be_ignored_as_cr:       # FITS criterium, first pixel is [1, 1]
  # - [X, Y]                        # <-- format (no need to uncomment this)
  pixels_to_be_replaced_by_local_median:  # FITS criterium
  # - [X, Y, X_width, Y_width]      # <-- format (no need to uncomment this)
  verify_cr: False                  # ask for confirmation
  semiwindow: 15                    # to display residual CR hits
  color_scale: zscale               # minmax | zscale
  maxplots: -1                      # -1: all CR detected are plotted
  #-----------------------------------------------------------------------------
  # Parameters for L.A. Cosmic (van Dokkum 2001), as implemented in ccdproc
  # (based in https://github.com/astropy/astroscrappy).
  # https://ccdproc.readthedocs.io/en/latest/api/ccdproc.cosmicray_lacosmic.html
  la_gain_apply: True    # Return gain-corrected data
  la_sigclip: 5.0        # Laplacian-to-noise limit for cosmic ray detection
  la_sigfrac: 0.3        # Fractional detection limit for neighboring pixels
  la_objlim: 5.0         # Contrast between Laplacian and fine struct. images
  la_satlevel: 65535.0   # Saturation level of the image (ADU)
  la_niter: 4            # Number of iterations to perform
  la_sepmed: True        # Use the separable median filter (not the full filter)
  la_cleantype: meanmask # median | medmask | meanmask | idw
  la_fsmode: convolve    # median | convolve
  la_psfmodel: gaussxy   # gauss | moffat | gaussx | gaussy | gaussxy
  la_psffwhm_x: 2.5      # FWHM of the PSF (X direction) to generate the kernel
  la_psffwhm_y: 2.5      # FWHM of the PSF (Y direction) to generate the kernel
  la_psfsize: 11         # size of the kernel
  la_psfbeta: 4.765      # Moffat beta parameter
  la_verbose: True       # Print to the screen or not
  #-----------------------------------------------------------------------------
  # Parameters for the Median-Minimum method (Cardiel et al. 2025)
  # rectangular region to determine offsets between individual images:
  mm_crosscorr_region: null  # [xmin, xmax, ymin, ymax] FITS criterium | null
  mm_boundary_fit: spline    # piecewise | spline
  mm_knots_splfit: 3         # used only for spline fit
  mm_fixed_points_in_boundary:
  # - [x, y, weight]  # weights are optional(ignored) for spline(piecewise) fit
  mm_nsimulations: 5                  # simulations for each set of images
  mm_niter_boundary_extension: 3      # iterations to extend the spline fit
  mm_weight_boundary_extension: 10.0  # multiplicative increment in weigth
  mm_threshold: 0.0                   # minimum median2d - min2d value
  mm_minimum_max2d_rnoise: 5.0        # minimum max2d (in readout units)
  mm_seed: 123456                     # random seed for reproducibility
  #----------------------------------------------------------------------------
"""
DETECTION = f"""\
id: 8_LR-R_crmasks
mode: MegaraCrDetection
instrument: MEGARA
frames:
{FRAME_LINES}
{REQUIREMENT_LINES}"""
COMBINATION = f"""\
id: 8_LcbImage_LR-R
mode: MegaraLcbImage
instrument: MEGARA
frames:
{FRAME_LINES}
requirements:
  method: {{method}}
  method_kwargs:
    apply_flux_factor: False
    use_lamedian: False
  crmasks: ../data/crmasks.fits
  extraction_offset: [+3]
  ignored_sky_bundles: [96] #[93, 94, 96, 97, 99, 100]
  reference_extinction: extinction_LP.txt
"""
STANDALONE = f"""\
images:
{FRAME_LINES}
extnum: 0
gain: 1.7
rnoise: 3.4
bias: 2000
{REQUIREMENT_LINES}"""
# The file holds the defaults, but for these; of a version without the exact boundary.
IN_FILE = Requirements(
    crmethod="mm_lacosmic", interactive=True, mm_boundary_fit="spline"
)
SHORT = "frames: [a.fits, b.fits]\n"


@pytest.fixture
def read(tmp_path):
    """Return a function that reads a text as an observing block."""

    def read_text(text):
        path = tmp_path / "block.yaml"
        path.write_text(text, encoding="utf-8")
        return ObservingBlock.from_yaml(path)

    return read_text


# What the files name; the default of crmethod is another one.


class TestDetection:
    """The documented file of a detection."""

    def test_as_it_stands(self, read):
        """Everything is found, and nothing is said."""
        with log.log_to_list() as messages:
            block = read(DETECTION)
        assert messages == []
        assert block.id == "8_LR-R_crmasks"
        assert block.mode == "MegaraCrDetection"
        assert block.instrument == "MEGARA"
        assert block.frames == FRAMES
        assert block.requirements == IN_FILE
        for name in ("extnum", "method", "crmasks", "gain", "readnoise", "bias"):
            assert getattr(block, name) is None
        assert block.method_kwargs == {}
        assert block.other == {}

    def test_str_path(self, tmp_path):
        """The path may be a string."""
        path = tmp_path / "block.yaml"
        path.write_text(DETECTION, encoding="utf-8")
        assert ObservingBlock.from_yaml(str(path)) == ObservingBlock.from_yaml(path)

    def test_requirements_from_yaml(self, tmp_path):
        """The requirements alone can be read from the same file."""
        path = tmp_path / "block.yaml"
        path.write_text(DETECTION, encoding="utf-8")
        assert Requirements.from_yaml(path) == IN_FILE

    def test_changed_values(self, read):
        """Values of the file are used, lists in it too."""
        text = DETECTION.replace("dilation: 1 ", "dilation: 2 ").replace(
            "  # - [X, Y]   ", "    - [3, 4]   "
        )
        requirements = read(text).requirements
        assert requirements.dilation == 2
        assert requirements.pixels_to_be_flagged_as_cr == ((3, 4),)
        assert requirements.pixels_to_be_ignored_as_cr == ((3, 4),)

    def test_pipeline_requirements(self, read):
        """Requirements of the pipeline are kept aside, with one message."""
        text = DETECTION + "  master_bias: bias.fits\n  extraction_offset: [+3]\n"
        with log.log_to_list() as messages:
            block = read(text)
        assert block.other == {"master_bias": "bias.fits", "extraction_offset": [3]}
        assert block.requirements == IN_FILE
        (message,) = messages
        assert message.levelname == "INFO"
        assert "master_bias" in message.message
        assert "extraction_offset" in message.message

    def test_unknown_requirement(self, read):
        """A typing error is not taken for a requirement of the pipeline."""
        message = "'la_sigclp'; did you mean 'la_sigclip'"
        with pytest.raises(UnknownRequirementError, match=message):
            read(DETECTION.replace("la_sigclip", "la_sigclp"))

    @pytest.mark.parametrize("text", ["", "requirements:\n", "requirements: {}\n"])
    def test_no_requirements(self, read, text):
        """Without requirements: the defaults."""
        assert read(SHORT + text).requirements == Requirements()

    def test_use_auxmedian(self, read):
        """The newer name of a requirement."""
        text = DETECTION.replace("use_lamedian: False", "use_auxmedian: True")
        assert read(text).requirements.use_lamedian is True


class TestCombination:
    """The documented files of a combination."""

    @pytest.mark.parametrize("method", ["mediancr", "meancrt", "meancr"])
    def test_as_it_stands(self, read, method):
        """Everything is found; other keys are kept, with one message."""
        with log.log_to_list() as messages:
            block = read(COMBINATION.format(method=method))
        assert block.id == "8_LcbImage_LR-R"
        assert block.mode == "MegaraLcbImage"
        assert block.instrument == "MEGARA"
        assert block.frames == FRAMES
        assert block.method == method
        assert block.method_kwargs == {
            "apply_flux_factor": False,
            "use_lamedian": False,
        }
        assert block.crmasks == "../data/crmasks.fits"
        assert block.requirements is None
        assert block.other == {
            "extraction_offset": [3],
            "ignored_sky_bundles": [96],
            "reference_extinction": "extinction_LP.txt",
        }
        (message,) = messages
        assert message.levelname == "INFO"
        text = "block.yaml: not used: "
        names = message.message.split(text)[1].split(", ")
        assert names == list(block.other)

    @pytest.mark.parametrize("text", ["", "  method_kwargs:\n", "  method_kwargs: {}"])
    def test_no_kwargs(self, read, text):
        """Options of the method may be left out."""
        block = read(f"{SHORT}requirements:\n  method: meancr\n{text}")
        assert block.method_kwargs == {}
        assert block.crmasks is None
        assert block.requirements is None

    def test_only_crmasks(self, read):
        """A file of masks makes it a combination."""
        block = read(f"{SHORT}requirements:\n  crmasks: m.fits\n")
        assert block.crmasks == "m.fits"
        assert block.method is None
        assert block.requirements is None

    @pytest.mark.parametrize("stray", ["dilation", "use_auxmedian"])
    def test_mixed(self, read, stray):
        """Requirements of a detection do not belong here."""
        text = f"{SHORT}requirements: {{method: meancr, {stray}: 1}}\n"
        message = rf"must not mix a combination .+ those of a detection: {stray}$"
        with pytest.raises(ValueError, match=message):
            read(text)


class TestStandalone:
    """Files of the standalone script of the original software."""

    def test_as_it_stands(self, read):
        """Images and detector are found; read noise and bias are in adu."""
        with log.log_to_list() as messages:
            block = read(STANDALONE)
        assert messages == []
        assert block.frames == FRAMES
        assert block.extnum == 0
        assert block.gain == 1.7 * u.electron / u.adu
        assert block.readnoise == 3.4 * u.adu
        assert block.bias == 2000 * u.adu
        assert (block.gain.unit, block.readnoise.unit) == (u.electron / u.adu, u.adu)
        assert block.requirements == IN_FILE
        assert block.id is block.mode is block.instrument is None

    @pytest.mark.parametrize("key", ["gain", "rnoise", "bias", "extnum"])
    def test_optional(self, read, key):
        """Each may be empty or left out."""
        name = {"rnoise": "readnoise"}.get(key, key)
        assert getattr(read(re.sub(rf"\n{key}: .+", "", STANDALONE)), name) is None
        empty = re.sub(rf"\n{key}: .+", f"\n{key}:", STANDALONE)
        assert getattr(read(empty), name) is None

    @pytest.mark.parametrize("extnum", ["3", "SCI"])
    def test_extnum(self, read, extnum):
        """An extension has a number or a name."""
        expected = int(extnum) if extnum.isdigit() else extnum
        assert read(f"{SHORT}extnum: {extnum}\n").extnum == expected

    @pytest.mark.parametrize(
        ("key", "value", "error", "rule"),
        [
            ("gain", "0", ValueError, "a finite number > 0, got 0"),
            ("gain", "-1.5", ValueError, "a finite number > 0, got -1.5"),
            ("gain", "high", TypeError, "a finite number > 0, got 'high'"),
            ("rnoise", "-1", ValueError, "a finite number >= 0, got -1"),
            ("rnoise", "[1]", TypeError, r"a finite number >= 0, got \[1\]"),
            ("bias", ".nan", ValueError, "a finite number, got nan"),
            ("bias", "true", TypeError, "a finite number, got True"),
        ],
    )
    def test_detector(self, read, key, value, error, rule):
        """Impossible values of the detector are refused."""
        with pytest.raises(error, match=f"^{key} must be {rule}"):
            read(f"{SHORT}{key}: {value}\n")

    def test_noise(self, read):
        """The source of the noise is one of three."""
        assert read(f"{SHORT}noise: detector\n").noise == "detector"
        assert read(f"{SHORT}noise: none\n").noise is None
        with pytest.raises(ValueError, match=r"noise must be one of auto, .+ 'ccd'"):
            read(f"{SHORT}noise: ccd\n")

    def test_mem_limit(self, read):
        """A memory limit may have a unit."""
        assert read(f"{SHORT}mem_limit: 1.5 GB\n").mem_limit == "1.5 GB"
        with pytest.raises(ValueError, match="mem_limit must be a number of bytes"):
            read(f"{SHORT}mem_limit: much\n")

    @pytest.mark.parametrize("key", ["gain", "readnoise", "bias"])
    def test_keyword(self, read, key):
        """Upper-case names are header keywords."""
        assert getattr(read(f"{SHORT}{key}: RD_NOISE\n"), key) == "RD_NOISE"
        with pytest.raises(TypeError, match=f"{key} must be a finite number"):
            read(f"{SHORT}{key}: TOO-LONG-A\n")

    def test_rnoise_keyword(self, read):
        """The unit of a keyword is electron: not for rnoise, which is in adu."""
        with pytest.raises(TypeError, match=r"rnoise must be a finite .+ got 'RON'"):
            read(f"{SHORT}rnoise: RON\n")

    def test_readnoise(self, read):
        """In electron, and not together with the one in adu."""
        assert read(f"{SHORT}readnoise: 3\n").readnoise == 3 * u.electron
        with pytest.raises(ValueError, match=r"rnoise .+ and readnoise .+ exclude"):
            read(f"{SHORT}readnoise: 3\nrnoise: 2\n")

    def test_negative_bias(self, read):
        """A bias below zero is possible, and no read noise too."""
        block = read(f"{SHORT}bias: -5\nrnoise: 0\n")
        assert block.bias == -5 * u.adu
        assert block.readnoise == 0 * u.adu


class TestFrames:
    """The list of exposures."""

    @pytest.mark.parametrize(
        ("text", "found"),
        [
            ("id: a\n", "None"),
            ("frames:\n", "None"),
            ("frames: a.fits\n", "'a.fits'"),
            ("frames: [1, 2]\n", r"\[1, 2\]"),
            ("images: {a: b}\n", r"\{'a': 'b'\}"),
        ],
    )
    def test_no_list(self, read, text, found):
        """A list of names is needed."""
        message = rf"frames in .+block\.yaml must be a list of file names, got {found}"
        with pytest.raises(ValueError, match=message):
            read(text)

    def test_both(self, read):
        """Two lists are one too many."""
        with pytest.raises(ValueError, match="must give frames or images, not both"):
            read(f"{SHORT}images: [c.fits]\n")

    def test_alias_bomb(self, read):
        """A short file cannot make a message of a million items."""
        text = "b0: &b0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n"
        for i in range(1, 6):
            text += f"b{i}: &b{i} [{', '.join([f'*b{i - 1}'] * 10)}]\n"
        with pytest.raises(ValueError, match="must be a list of file names") as error:
            read(f"{text}frames: *b5\n")
        assert len(str(error.value)) < 10_000


class TestFile:
    """The file as a whole."""

    def test_path(self, read, tmp_path):
        """A block knows its file."""
        assert read(SHORT).path == tmp_path / "block.yaml"

    def test_several(self, read, tmp_path):
        """Blocks are separated by three hyphens; empty ones are left out."""
        path = tmp_path / "blocks.yaml"
        combination = COMBINATION.format(method="meancr")
        path.write_text(f"---\n{DETECTION}---\n---\n{combination}---\n")
        blocks = ObservingBlock.list_from_yaml(path)
        assert [block.id for block in blocks] == ["8_LR-R_crmasks", "8_LcbImage_LR-R"]
        assert blocks[0].requirements == IN_FILE
        assert blocks[1].method == "meancr"
        with pytest.raises(ValueError, match=r"holds 2 observing blocks; use .+list"):
            ObservingBlock.from_yaml(path)
        assert ObservingBlock.list_from_yaml(path)[0] == blocks[0]
        with pytest.raises(ValueError, match="document is needed, found 2"):
            Requirements.from_yaml(path)
        assert [read(f"{SHORT}---\n").path.name] == ["block.yaml"]

    def test_one_is_wrong(self, tmp_path):
        """Each document must be a mapping."""
        path = tmp_path / "blocks.yaml"
        path.write_text(f"{SHORT}---\n5\n")
        with pytest.raises(ValueError, match=r"a mapping of names .+ found int"):
            ObservingBlock.list_from_yaml(path)

    def test_unknown_keys(self, read):
        """Other keys of the file are kept, with one message."""
        with log.log_to_list() as messages:
            block = read(f"{SHORT}children: [1, 2]\nenabled: true\n")
        assert block.other == {"children": [1, 2], "enabled": True}
        (message,) = messages
        assert message.message.endswith("block.yaml: not used: children, enabled")

    def test_order(self, read):
        """Names of the pipeline are listed as they stand in the file."""
        names = ["sky_rss", "extraction_offset", "master_bias", "master_dark"]
        lines = "".join(f"  {name}: 1\n" for name in names)
        with log.log_to_list() as messages:
            block = read(f"{SHORT}requirements:\n{lines}")
        assert list(block.other) == names
        assert messages[0].message.endswith(f"not used: {', '.join(names)}")

    @pytest.mark.parametrize("text", ["none", "None", "null", ""])
    @pytest.mark.parametrize("name", ["gain", "rnoise", "bias", "extnum", "id"])
    def test_none(self, read, name, text):
        """All ways to say that something is not given."""
        block = read(f"images: [a.fits]\n{name}: {text}\n")
        name = {"rnoise": "readnoise"}.get(name, name)
        assert getattr(block, name) is None

    @pytest.mark.parametrize("requirements", ["5", "none", "[dilation]", "[]", "''"])
    def test_requirements_no_mapping(self, read, requirements):
        """Requirements are a mapping."""
        message = r"requirements in .+block\.yaml must be a mapping of names to values"
        with pytest.raises(TypeError, match=message):
            read(f"{SHORT}requirements: {requirements}\n")

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "must hold a mapping of names to values, found NoneType"),
            ("- a.fits\n", "must hold a mapping of names to values, found list"),
            (f"{SHORT}id: [\n", "is not a valid YAML file"),
            (f"{SHORT}frames: [c.fits]\n", "'frames' is given twice"),
            (f"{SHORT}id: !!python/name:os.getcwd\n", "could not determine a constr"),
            (f"{SHORT}5: a\n", "keys must be names, got 5"),
        ],
    )
    def test_invalid(self, read, text, message):
        """What is no observing block is refused with the name of the file."""
        with pytest.raises(ValueError, match=rf"block\.yaml .*{message}") as error:
            read(text)
        assert "block.yaml" in str(error.value)

    def test_missing(self, tmp_path):
        """A file that does not exist."""
        with pytest.raises(FileNotFoundError, match=r"absent\.yaml"):
            ObservingBlock.from_yaml(tmp_path / "absent.yaml")

    def test_frozen(self, read):
        """A block does not change."""
        block = read(DETECTION)
        with pytest.raises(dataclasses.FrozenInstanceError, match="frames"):
            block.frames = ()


class TestOtherKeys:
    """Keys that are not used here."""

    TEXT = "id: a\nmode: MegaraCrDetection\nframes: [a.fits, b.fits, c.fits]\n"

    def write(self, tmp_path, more):
        """Return a file of a detection with more lines."""
        path = tmp_path / "block.yaml"
        path.write_text(self.TEXT + more)
        return path

    @pytest.mark.parametrize(
        "line",
        [
            "pc_sigma_det: [5.0, 3.0]",
            "dc_threshold: 0.5",
            "nn_model: ground_imaging",
            "save_preprocessed: True",
        ],
    )
    def test_numina(self, tmp_path, line):
        """Those of numina's documentation are accepted."""
        text = f"requirements:\n  crmethod: mm_lacosmic\n  {line}\n"
        block = ObservingBlock.from_yaml(self.write(tmp_path, text))
        assert block.requirements.crmethod == "mm_lacosmic"
        assert line.partition(":")[0] in block.other

    @pytest.mark.parametrize(
        ("line", "message"),
        [
            ("gains: 1.9", "gains is not used; did you mean gain?"),
            ("readnoize: 3", "readnoize is not used; did you mean readnoise?"),
            ("dilation: 3", "dilation is not used: it must be indented below"),
            ("crmethod: mmcosmic", "crmethod is not used: it must be indented below"),
        ],
    )
    def test_misplaced(self, tmp_path, caplog, line, message):
        """A misspelt or wrongly indented key is a warning with the likely name."""
        ObservingBlock.from_yaml(self.write(tmp_path, f"{line}\n"))
        (record,) = [r for r in caplog.records if r.levelname == "WARNING"]
        assert message in record.getMessage()

    @pytest.mark.parametrize("line", ["enabled: true", "children: []", "comment: x"])
    def test_other(self, tmp_path, caplog, line):
        """Other keys of the control system are no warning."""
        ObservingBlock.from_yaml(self.write(tmp_path, f"{line}\n"))
        assert not [r for r in caplog.records if r.levelname == "WARNING"]
