"""The parts of the SDK: `casemate.sandbox` and `casemate.sandbox_async` are made of them."""
