"""What users do: apply a run to images, fit them, ask what it sees, export or publish it."""
