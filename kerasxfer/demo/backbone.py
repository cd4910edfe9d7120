"""The first address of `DemoVGG`, which lives in `kerasxfer.backbones`."""

from kerasxfer.backbones.demo_vgg import DemoVGG as DemoVGG
