import torch

from birdclf.models.blocks import ConvBlock


@torch.no_grad()
def test_a_norm_that_learns_sees_its_input_whatever_the_mode_of_its_block():
    torch.manual_seed(0)
    block, x = ConvBlock(2, 3).eval(), torch.randn(4, 2, 6, 8)
    block.norm.train()
    block.norm.momentum = 1.0
    block(x)
    torch.testing.assert_close(block.norm.running_mean, block.conv(x).mean(dim=(0, 2, 3)))


@torch.no_grad()
def test_a_folded_norm_gives_what_the_norm_gives():
    torch.manual_seed(0)
    block, x = ConvBlock(2, 3, pool=True), torch.randn(4, 2, 6, 8)
    block(x)
    block.eval()
    torch.testing.assert_close(block(x), torch.relu(block.pool(block.norm(block.conv(x)))))
