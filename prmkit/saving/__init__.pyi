from .model import load_model as load_model, save_model as save_model

__all__ = ["load_model", "save_model"]
