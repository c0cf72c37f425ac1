"""The parameters of a model that training changes."""

from torch import Tensor, nn

from core.model.moving_average import averaged_teachers


def trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    """Name -> parameter, for parameters that are trained."""
    return {
        name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad
    }


def changing(model: nn.Module) -> dict[str, nn.Parameter]:
    """Name -> parameter, for parameters that training changes: trained, or a moving average."""
    averages = {
        id(parameter)
        for part in averaged_teachers(model)
        if part.teacher is not None
        for parameter in part.teacher.parameters()
    }
    return {
        name: parameter
        for name, parameter in model.named_parameters()
        if parameter.requires_grad or id(parameter) in averages
    }


def count_trainable(model: nn.Module) -> int:
    """How many numbers are trained."""
    return sum(parameter.numel() for parameter in trainable(model).values())


def exported_tensors(model: nn.Module) -> dict[str, Tensor]:
    """The tensors of a run's `model.safetensors`: trained parameters and the position table.

    The table identifies the encoder's kind of positions."""
    return {**trainable(model), "encoder.positions": model.get_buffer("encoder.positions")}


def recognizer_tensors(model: nn.Module) -> dict[str, Tensor]:
    """As `exported_tensors`, for a recognizer: frozen parameters too, without the CTC head."""
    parameters = {
        name: parameter
        for name, parameter in model.named_parameters()
        if not name.startswith("ctc.")
    }
    return {**parameters, "encoder.positions": model.get_buffer("encoder.positions")}
