"""Schedule, loss and samplers in float64, written from the definitions of Improved DDPM (guided-diffusion) and DDIM."""
import math

import torch


def betas_linear(n=1000, first=1e-4, last=0.02):
    return torch.linspace(first, last, n, dtype=torch.float64)


def space_timesteps(n, count):
    """One section of guided-diffusion's space_timesteps: a fractional stride, rounded half to even."""
    stride = 1.0 if count <= 1 else (n - 1) / (count - 1)
    kept, position = [], 0.0
    for _ in range(count):
        kept.append(round(position))
        position += stride
    return sorted(set(kept))


def space_timesteps_ddim(n, count):
    """Its "ddimN" form: the first integer stride that leaves exactly `count`."""
    for stride in range(1, n):
        if len(range(0, n, stride)) == count:
            return list(range(0, n, stride))
    raise ValueError(f"no integer stride leaves {count} of {n} steps")


class Schedule:
    """Betas and what follows from them; `timestep` holds the original index of each step of a respaced schedule."""

    def __init__(self, beta, timestep=None):
        one = torch.ones(1, dtype=torch.float64)
        self.beta = beta
        self.timestep = timestep if timestep is not None else list(range(len(beta)))
        self.alpha_bar = torch.cumprod(1 - beta, 0)
        self.alpha_bar_prev = torch.cat([one, self.alpha_bar[:-1]])
        self.posterior_variance = beta * (1 - self.alpha_bar_prev) / (1 - self.alpha_bar)
        floor = self.posterior_variance[1 if len(beta) > 1 else 0]
        self.posterior_log_variance = torch.log(torch.cat([floor[None], self.posterior_variance[1:]]))
        self.mean_x0 = beta * torch.sqrt(self.alpha_bar_prev) / (1 - self.alpha_bar)
        self.mean_xt = (1 - self.alpha_bar_prev) * torch.sqrt(1 - beta) / (1 - self.alpha_bar)

    def respace(self, kept):
        """The schedule whose alpha_bar are this one's at `kept`."""
        beta, last = [], 1.0
        for i in kept:
            beta.append(1 - self.alpha_bar[i].item() / last)
            last = self.alpha_bar[i].item()
        return Schedule(torch.tensor(beta, dtype=torch.float64), list(kept))

    def at(self, values, t):
        return values[t].reshape(-1, 1, 1, 1)

    def add_noise(self, x0, noise, t):
        return torch.sqrt(self.at(self.alpha_bar, t)) * x0 + torch.sqrt(1 - self.at(self.alpha_bar, t)) * noise

    def predict_x0(self, xt, epsilon, t):
        recip, recipm1 = torch.sqrt(1 / self.alpha_bar), torch.sqrt(1 / self.alpha_bar - 1)
        return self.at(recip, t) * xt - self.at(recipm1, t) * epsilon

    def predict_epsilon(self, xt, x0, t):
        recip, recipm1 = torch.sqrt(1 / self.alpha_bar), torch.sqrt(1 / self.alpha_bar - 1)
        return (self.at(recip, t) * xt - x0) / self.at(recipm1, t)

    def posterior_mean(self, x0, xt, t):
        return self.at(self.mean_x0, t) * x0 + self.at(self.mean_xt, t) * xt

    def log_variance(self, v, t):
        """The learned range: v = -1 is the posterior's variance, v = 1 is beta."""
        fraction = (v + 1) / 2
        return fraction * self.at(torch.log(self.beta), t) + (1 - fraction) * self.at(self.posterior_log_variance, t)


def mean_flat(x):
    return x.flatten(1).mean(1)


def normal_kl(mean1, log_variance1, mean2, log_variance2):
    return 0.5 * (-1 + log_variance2 - log_variance1 + torch.exp(log_variance1 - log_variance2)
                  + (mean1 - mean2) ** 2 * torch.exp(-log_variance2))


def decoder_nll(x0, mean, log_scale):
    """Minus the log-likelihood of x0 in bins of 1/127.5 under a Gaussian, its CDF in the tanh approximation."""
    def cdf(z):
        return 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3)))

    inverse = torch.exp(-log_scale)
    upper, lower = cdf(inverse * (x0 - mean + 1 / 255)), cdf(inverse * (x0 - mean - 1 / 255))
    log_middle = torch.log((upper - lower).clamp(min=1e-12))
    log_lowest, log_highest = torch.log(upper.clamp(min=1e-12)), torch.log((1 - lower).clamp(min=1e-12))
    return -torch.where(x0 < -0.999, log_lowest, torch.where(x0 > 0.999, log_highest, log_middle))


def loss_terms(schedule, model, x0, noise, t, learn_sigma):
    """model(x, original timesteps) -> output. Returns per-sample mse and vlb (bits; None without learned sigma)."""
    xt = schedule.add_noise(x0, noise, t)
    output = model(xt, torch.tensor(schedule.timestep)[t])
    epsilon = output[:, : x0.shape[1]]
    mse = mean_flat((noise - epsilon) ** 2)
    if not learn_sigma:
        return mse, None
    v, epsilon = output[:, x0.shape[1] :], epsilon.detach()
    true_mean = schedule.posterior_mean(x0, xt, t)
    mean = schedule.posterior_mean(schedule.predict_x0(xt, epsilon, t), xt, t)
    log_variance = schedule.log_variance(v, t)
    kl = mean_flat(normal_kl(true_mean, schedule.at(schedule.posterior_log_variance, t), mean, log_variance))
    nll = mean_flat(decoder_nll(x0, mean, 0.5 * log_variance))
    return mse, torch.where(t == 0, nll, kl) / math.log(2)


def guided(model, x, t, y, null, w, channels, image_channels):
    """Classifier-free guidance on the first `channels` planes of epsilon; the other planes are the conditional ones."""
    cond = model(x, t, y)
    if w == 1:
        return cond
    uncond = model(x, t, torch.full_like(y, null))
    channels = min(channels, image_channels)
    return torch.cat([uncond[:, :channels] + w * (cond[:, :channels] - uncond[:, :channels]), cond[:, channels:]], 1)


def step_ddpm(s, output, x, t, noise, clip):
    """One ancestral step of a model with learned sigma."""
    C = x.shape[1]
    x0 = s.predict_x0(x, output[:, :C], t)
    x0 = x0.clamp(-1, 1) if clip else x0
    sigma = torch.exp(0.5 * s.log_variance(output[:, C:], t))
    return s.posterior_mean(x0, x, t) + (t != 0).reshape(-1, 1, 1, 1) * sigma * noise


def step_ddim(s, output, x, t, noise, clip, eta):
    """One DDIM step; epsilon is taken again from the (clipped) x0, as guided-diffusion does."""
    x0 = s.predict_x0(x, output[:, : x.shape[1]], t)
    x0 = x0.clamp(-1, 1) if clip else x0
    epsilon = s.predict_epsilon(x, x0, t)
    bar, prev = s.at(s.alpha_bar, t), s.at(s.alpha_bar_prev, t)
    sigma = eta * torch.sqrt((1 - prev) / (1 - bar)) * torch.sqrt(1 - bar / prev)
    mean = torch.sqrt(prev) * x0 + torch.sqrt(1 - prev - sigma**2) * epsilon
    return mean + (t != 0).reshape(-1, 1, 1, 1) * sigma * noise


def sample(schedule, model, x, y, null, noise, *, method, eta, w, channels, clip):
    """Every x after x_T = x, (steps, n, C, S, S); noise has that shape too, entry 0 for the first step taken."""
    trajectory = []
    for i, index in enumerate(reversed(range(len(schedule.beta)))):
        t = torch.full((len(x),), index)
        original = torch.full((len(x),), schedule.timestep[index])
        output = guided(model, x, original, y, null, w, channels, x.shape[1])
        if method == "ddpm":
            x = step_ddpm(schedule, output, x, t, noise[i], clip)
        else:
            x = step_ddim(schedule, output, x, t, noise[i], clip, eta)
        trajectory.append(x)
    return torch.stack(trajectory)
