"""What users do with a trained run."""

from halometry.inference.predict import Answer, predict

__all__ = ["Answer", "predict"]
