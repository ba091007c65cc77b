"""
Digits of a class
=================

Draw handwritten digits of the class you ask for, and read digits with the same flow. A flow of :math:`p(x \\mid c)`
does both: its samples are new digits, and its density, by Bayes' rule, tells which class a digit belongs to.
"""

import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits

import condflows as cf
from condflows import plots
from condflows.conditioners import CouplingConditioner, Embed, MLPConditioner

torch.manual_seed(0)

# %%
# The data is part of scikit-learn: 1797 images of 8x8 pixels, integers from 0 to 16. Integers have no density. Noise
# between 0 and 1 on each pixel, new at each step of the training, gives them one:

digits, labels = (torch.as_tensor(values) for values in load_digits(return_X_y=True))
digits = digits.view(-1, 1, 8, 8).float()
order = torch.randperm(len(digits))
train, test = order[:1500], order[1500:]


def dequantized(digits, labels):
    return (digits + torch.rand_like(digits)) / 17, labels


# %%
# Each layer reads the class through a table of vectors, which all layers share:

embed = Embed(10, 16)


def step(c):
    return cf.glow_step(
        c,
        coupling=embed.before(CouplingConditioner(c, width=48, context_channels=16, context_width=16)),
        actnorm=embed.before(MLPConditioner(16, 2 * c)),
    )


flow = cf.Flow(cf.Chain([cf.Logit(-0.02, 1.02), cf.multiscale(1, (4, 4), step)]), shape=(1, 8, 8))
history = cf.fit(flow, digits[train], labels[train], prepare=dequantized, epochs=16, batch_size=100,
                 learning_rate=5e-3, progress=False)
print(history)

# %%
# Five new digits of each class. Temperatures below 1 stay closer to what is typical:

with torch.no_grad():
    samples = flow.sample(5, torch.arange(10), temperature=0.8)
figure = plots.images(samples.unbind(1), limits=(0, 1))
figure.suptitle("Five samples of each class, 0 to 9")
plt.show()

# %%
# The class of a digit is the one that makes it most likely, here as all classes are equally frequent. The flow was
# never trained to tell them apart:

with torch.no_grad():
    x, label = dequantized(digits[test], labels[test])
    log_probs = torch.stack([flow.log_prob(x, torch.full_like(label, c)) for c in range(10)], dim=1)
accuracy = (log_probs.argmax(1) == label).float().mean()
print(f"{accuracy:.1%} of {len(test)} digits that were held out are read correctly")
assert accuracy > 0.9
