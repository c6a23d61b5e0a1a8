"""Layers and models. To add a layer: write its class in the file of its kind, and its line here."""
# ruff: noqa: F401  every line here is an export

from . import activations, constraints, initializers, regularizers, serialization
from .activation import ELU, Activation, LeakyReLU, PReLU, ReLU, Softmax
from .attention import (
    AdditiveAttention,
    Attention,
    GroupedQueryAttention,
    GroupQueryAttention,
    MultiHeadAttention,
)
from .augmentation import (
    CutMix,
    MixUp,
    Pipeline,
    RandomBrightness,
    RandomContrast,
    RandomCrop,
    RandomFlip,
    RandomRotation,
    RandomShear,
    RandomTranslation,
    RandomZoom,
)
from .categories import (
    CategoryEncoding,
    Discretization,
    HashedCrossing,
    Hashing,
    IntegerLookup,
    StringLookup,
)
from .checks import InputSpec
from .colours import (
    AugMix,
    AutoContrast,
    RandAugment,
    RandomColorDegeneration,
    RandomColorJitter,
    RandomGrayscale,
    RandomHue,
    RandomInvert,
    RandomPosterization,
    RandomSaturation,
    RandomSharpness,
    Solarization,
)
from .convolution import (
    Conv1D,
    Conv1DTranspose,
    Conv2D,
    Conv2DTranspose,
    Conv3D,
    Conv3DTranspose,
    Convolution1D,
    Convolution1DTranspose,
    Convolution2D,
    Convolution2DTranspose,
    Convolution3D,
    Convolution3DTranspose,
    DepthwiseConv1D,
    DepthwiseConv2D,
    SeparableConv1D,
    SeparableConv2D,
    SeparableConvolution1D,
    SeparableConvolution2D,
)
from .dense import Dense, EinsumDense
from .distortion import RandomElasticTransform, RandomErasing, RandomGaussianBlur, RandomPerspective
from .embedding import Embedding, Identity, Masking, ReversibleEmbedding
from .equalization import ContrastLimitedAdaptiveHistogramEqualization, Equalization
from .functional import KerasTensor
from .image_preprocessing import CenterCrop, MaxNumBoundingBoxes, Resizing
from .layer import Layer
from .masks import get_mask, set_mask
from .merging import (
    Add,
    Average,
    Concatenate,
    Dot,
    Maximum,
    Minimum,
    Multiply,
    Subtract,
    add,
    average,
    concatenate,
    dot,
    maximum,
    minimum,
    multiply,
    subtract,
)
from .model import Input, InputLayer, Model, clone_model
from .naming import clear_session
from .normalization import (
    BatchNormalization,
    GroupNormalization,
    LayerNormalization,
    RMSNormalization,
    UnitNormalization,
)
from .picture import plot_model
from .pooling import (
    AdaptiveAveragePooling1D,
    AdaptiveAveragePooling2D,
    AdaptiveAveragePooling3D,
    AdaptiveMaxPooling1D,
    AdaptiveMaxPooling2D,
    AdaptiveMaxPooling3D,
    AveragePooling1D,
    AveragePooling2D,
    AveragePooling3D,
    AvgPool1D,
    AvgPool2D,
    AvgPool3D,
    GlobalAveragePooling1D,
    GlobalAveragePooling2D,
    GlobalAveragePooling3D,
    GlobalAvgPool1D,
    GlobalAvgPool2D,
    GlobalAvgPool3D,
    GlobalMaxPool1D,
    GlobalMaxPool2D,
    GlobalMaxPool3D,
    GlobalMaxPooling1D,
    GlobalMaxPooling2D,
    GlobalMaxPooling3D,
    MaxPool1D,
    MaxPool2D,
    MaxPool3D,
    MaxPooling1D,
    MaxPooling2D,
    MaxPooling3D,
)
from .positions import RotaryEmbedding, SinePositionEncoding
from .preprocessing import Normalization, Rescaling
from .recurrent import GRU, LSTM, RNN, Bidirectional, SimpleRNN
from .recurrent_cells import GRUCell, LSTMCell, SimpleRNNCell, StackedRNNCells
from .recurrent_convolution import ConvLSTM1D, ConvLSTM2D, ConvLSTM3D
from .regularization import (
    ActivityRegularization,
    AlphaDropout,
    Dropout,
    DropPath,
    GaussianDropout,
    GaussianNoise,
    SpatialDropout1D,
    SpatialDropout2D,
    SpatialDropout3D,
    StochasticDepth,
)
from .reshaping import (
    Cropping1D,
    Cropping2D,
    Cropping3D,
    Flatten,
    Permute,
    PixelShuffle,
    PixelUnshuffle,
    RepeatVector,
    Reshape,
    UpSampling1D,
    UpSampling2D,
    UpSampling3D,
    ZeroPadding1D,
    ZeroPadding2D,
    ZeroPadding3D,
)
from .sequential import Sequential
from .serialization import deserialize, serialize
from .spectrograms import MelSpectrogram, STFTSpectrogram
from .text import TextVectorization
from .wrappers import SpectralNormalization, TimeDistributed, Wrapper


def __getattr__(name: str) -> object:
    """Tell what a misspelt layer may have been meant to be."""
    if name.startswith("__"):
        raise AttributeError(name)
    from ..core.errors import unknown

    raise AttributeError(str(unknown("layer", name, [known for known in globals() if known[0].isupper()])), name=name)
