# The public names, one list for readers of types and for the lazy imports of __init__.py.
from . import attributes as attributes
from . import callbacks as callbacks
from . import data as data
from . import estimators as estimators
from . import evaluate as evaluate
from . import factor_analysis as factor_analysis
from . import lightning as lightning
from . import plots as plots
from . import schedules as schedules
from . import serving as serving
from . import single_cell as single_cell
from . import tables as tables
from . import testing as testing
from .comparison import Comparison as Comparison
from .comparison import Metric as Metric
from .comparison import compare as compare
from .data import Batch as Batch
from .documents.declaration import Declaration as Declaration
from .documents.declaration import declare as declare
from .documents.declaration import part as part
from .documents.export.exporting import export as export
from .documents.loading import load as load
from .documents.text.registry import register as register
from .errors import (
    CheckpointError as CheckpointError,
)
from .errors import (
    DataError as DataError,
)
from .errors import (
    DeclarationError as DeclarationError,
)
from .errors import (
    DocumentError as DocumentError,
)
from .errors import (
    ShapeError as ShapeError,
)
from .errors import (
    TrainingError as TrainingError,
)
from .explorer import Explorer as Explorer
from .explorer import explore as explore
from .factors import Covariate as Covariate
from .factors import Factor as Factor
from .factors import PerGroup as PerGroup
from .factors import Prior as Prior
from .factors.variables import Code as Code
from .families import (
    Bernoulli as Bernoulli,
)
from .families import (
    Beta as Beta,
)
from .families import (
    Binomial as Binomial,
)
from .families import (
    Categorical as Categorical,
)
from .families import (
    ContinuousBernoulli as ContinuousBernoulli,
)
from .families import (
    Dirichlet as Dirichlet,
)
from .families import (
    DiscretizedLogistic as DiscretizedLogistic,
)
from .families import (
    DiscretizedLogisticMixture as DiscretizedLogisticMixture,
)
from .families import (
    Flow as Flow,
)
from .families import (
    Gamma as Gamma,
)
from .families import (
    Gaussian as Gaussian,
)
from .families import (
    GaussianMessage as GaussianMessage,
)
from .families import (
    InverseAutoregressive as InverseAutoregressive,
)
from .families import (
    Laplace as Laplace,
)
from .families import (
    LogisticNormal as LogisticNormal,
)
from .families import (
    LogNormal as LogNormal,
)
from .families import (
    MixtureOfGaussians as MixtureOfGaussians,
)
from .families import (
    Multinomial as Multinomial,
)
from .families import (
    NegativeBinomial as NegativeBinomial,
)
from .families import (
    NeuralSpline as NeuralSpline,
)
from .families import (
    OrderedLogistic as OrderedLogistic,
)
from .families import (
    Poisson as Poisson,
)
from .families import (
    ProductOfExperts as ProductOfExperts,
)
from .families import (
    StudentT as StudentT,
)
from .families import (
    ZeroInflatedNegativeBinomial as ZeroInflatedNegativeBinomial,
)
from .families import (
    ZeroInflatedPoisson as ZeroInflatedPoisson,
)
from .families import (
    Zuko as Zuko,
)
from .formulas import describe as describe
from .guides import (
    ExactPosterior as ExactPosterior,
)
from .guides import (
    FactorisedPosterior as FactorisedPosterior,
)
from .guides import (
    Guide as Guide,
)
from .guides import (
    PyroGuide as PyroGuide,
)
from .guides import (
    Refined as Refined,
)
from .inference import (
    EM as EM,
)
from .inference import (
    SVI as SVI,
)
from .inference import (
    Checkpoint as Checkpoint,
)
from .inference import (
    Fit as Fit,
)
from .inference import (
    Imputation as Imputation,
)
from .inference import (
    Inference as Inference,
)
from .inference import (
    VariationalBayes as VariationalBayes,
)
from .inference import (
    VariationalEM as VariationalEM,
)
from .inference import (
    fit as fit,
)
from .objectives import (
    ELBO as ELBO,
)
from .objectives import (
    Bound as Bound,
)
from .objectives import (
    ImportanceWeightedELBO as ImportanceWeightedELBO,
)
from .objectives import (
    MaximumMeanDiscrepancy as MaximumMeanDiscrepancy,
)
from .objectives import (
    Objective as Objective,
)
from .objectives import (
    Penalised as Penalised,
)
from .objectives import (
    Penalty as Penalty,
)
from .objectives import (
    RenyiELBO as RenyiELBO,
)
from .objectives import (
    ReweightedWakeSleep as ReweightedWakeSleep,
)
from .objectives import (
    Run as Run,
)
from .objectives import (
    Supervised as Supervised,
)
from .objectives import (
    TotalCorrelation as TotalCorrelation,
)
from .priors import (
    ExemplarPrior as ExemplarPrior,
)
from .priors import (
    FlowPrior as FlowPrior,
)
from .priors import (
    GaussianProcess as GaussianProcess,
)
from .priors import (
    SquaredExponential as SquaredExponential,
)
from .priors import (
    StandardNormal as StandardNormal,
)
from .priors import (
    VampPrior as VampPrior,
)
from .programs.model import Model as Model
from .programs.model import PyroModel as PyroModel
from .sources import parameter_priors as parameter_priors
from .sources.covariances import (
    Covariance as Covariance,
)
from .sources.covariances import (
    Diagonal as Diagonal,
)
from .sources.covariances import (
    Full as Full,
)
from .sources.covariances import (
    Isotropic as Isotropic,
)
from .sources.covariances import (
    LowRank as LowRank,
)
from .sources.linear import Linear as Linear
from .sources.lookup import Lookup as Lookup
from .sources.networks import MLP as MLP
from .sources.networks import Convolutional as Convolutional
from .sources.per_row import PerRow as PerRow
from .sources.values import Fixed as Fixed
from .sources.values import Learned as Learned
from .tables import Heterogeneous as Heterogeneous
from .tables import heterogeneous as heterogeneous
from .warning_kinds import (
    AttributeWarning as AttributeWarning,
)
from .warning_kinds import (
    CompilationWarning as CompilationWarning,
)
from .warning_kinds import (
    ConvergenceWarning as ConvergenceWarning,
)
from .warning_kinds import (
    DataScaleWarning as DataScaleWarning,
)
from .warning_kinds import (
    EmptyCountsWarning as EmptyCountsWarning,
)
from .warning_kinds import (
    IdentificationWarning as IdentificationWarning,
)
from .warning_kinds import (
    PrecisionWarning as PrecisionWarning,
)
from .warning_kinds import (
    PriorWarning as PriorWarning,
)
from .warning_kinds import (
    RandomStreamWarning as RandomStreamWarning,
)
from .warning_kinds import (
    RowOrderWarning as RowOrderWarning,
)
from .warning_kinds import (
    ScaleFloorWarning as ScaleFloorWarning,
)
from .warning_kinds import (
    ScheduleWarning as ScheduleWarning,
)
from .warning_kinds import (
    SeedWarning as SeedWarning,
)
from .warning_kinds import (
    SkippedStepWarning as SkippedStepWarning,
)

__version__: str
