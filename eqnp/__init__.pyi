"""The public names, for type checkers and editors; a test holds them equal to those of ``eqnp/__init__.py``."""

from eqnp.api.exchange import export_run as export_run
from eqnp.api.exchange import import_run as import_run
from eqnp.api.functions import bptt as bptt
from eqnp.api.functions import build as build
from eqnp.api.functions import configure as configure
from eqnp.api.functions import estimate as estimate
from eqnp.api.functions import exact_gradient as exact_gradient
from eqnp.api.functions import load_data as load_data
from eqnp.api.functions import open_run as open_run
from eqnp.api.functions import relax as relax
from eqnp.api.functions import resume as resume
from eqnp.api.functions import train as train
from eqnp.api.plotting import draw_runs as draw_runs
from eqnp.api.predicting import predict_files as predict_files
from eqnp.api.run import Run as Run
from eqnp.api.showing import show_run as show_run
from eqnp.api.survey import survey as survey
from eqnp.api.tensorboard import TensorBoard as TensorBoard
from eqnp.architecture import Architecture as Architecture
from eqnp.backends.backend import get_backend as get_backend
from eqnp.connections.layers import ConvLayer as ConvLayer
from eqnp.connections.layers import DenseLayer as DenseLayer
from eqnp.connections.layers import Skip as Skip
from eqnp.contrasts import asymmetric_contrast as asymmetric_contrast
from eqnp.contrasts import common_contrast as common_contrast
from eqnp.contrasts import symmetric_contrast as symmetric_contrast
from eqnp.contrasts import vector_field_contrast as vector_field_contrast
from eqnp.dynamics import Phase as Phase
from eqnp.dynamics import Phases as Phases
from eqnp.dynamics import Relaxation as Relaxation
from eqnp.errors import EqnpError as EqnpError
from eqnp.estimators import Estimate as Estimate
from eqnp.losses import CrossEntropy as CrossEntropy
from eqnp.losses import Loss as Loss
from eqnp.losses import SquaredError as SquaredError
from eqnp.losses import one_hot as one_hot
from eqnp.networks import Network as Network
from eqnp.networks import SymmetricNetwork as SymmetricNetwork
from eqnp.networks import VectorFieldNetwork as VectorFieldNetwork
from eqnp.ops.activations import Activation as Activation
from eqnp.prepared import PreparedNetwork as PreparedNetwork
from eqnp.runs.config import Config as Config
from eqnp.stencils import Stencil as Stencil
from eqnp.stencils import circle as circle
from eqnp.stencils import four_point as four_point
from eqnp.stencils import one_sided as one_sided
from eqnp.stencils import random_sign as random_sign
from eqnp.stencils import symmetric as symmetric

__version__: str
__all__: list[str]
