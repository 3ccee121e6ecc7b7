"""What the fbgemm and qnnpack backends share: TorchScript artifacts, quantized by torch's FX graph mode.

torch marks FX graph mode and TorchScript as deprecated, so both stay confined to this package.
"""
