"""The services of the contract, one module each."""
