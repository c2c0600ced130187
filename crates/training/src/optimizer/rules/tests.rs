//! Each rule against its paper, one number at a time.
use candle_core::DType;

use super::super::check::{STEPS, learning_rate, numbers, params, run, slope};
use super::super::{AdamConfig, OptimizerConfig};

/// Compares with `rule(θ, state, g, lr, t)` on one number, in both precisions.
fn follows(config: &OptimizerConfig, rule: impl Fn(&mut f64, &mut [f64; 2], f64, f64, i32)) {
    for (dtype, tolerance) in [(DType::F64, 1e-13), (DType::F32, 3e-6)] {
        let mut expected = numbers(&params(dtype));
        for (i, x) in expected.iter_mut().enumerate() {
            let mut state = [0.; 2];
            for t in 1..=STEPS {
                rule(x, &mut state, slope(i, t), learning_rate(t), t as i32);
            }
        }
        for (got, expected) in run(config, dtype).iter().zip(expected) {
            assert!((got - expected).abs() < tolerance, "{dtype:?}: {got} {expected}");
        }
    }
}

#[test]
fn adam_is_algorithm_1_of_kingma_and_ba() {
    for decay in [0., 0.2] {
        let config = OptimizerConfig::Adam(AdamConfig {
            beta1: 0.8,
            beta2: 0.95,
            epsilon: 1e-3,
            weight_decay: decay,
        });
        follows(&config, |x, [m, v], g, lr, t| {
            *x -= lr * decay * *x;
            *m = 0.8 * *m + 0.2 * g;
            *v = 0.95 * *v + 0.05 * g * g;
            let m_hat = *m / (1. - 0.8f64.powi(t));
            let v_hat = *v / (1. - 0.95f64.powi(t));
            *x -= lr * m_hat / (v_hat.sqrt() + 1e-3);
        });
    }
}

#[test]
fn radam_starts_without_adaptation_and_then_rectifies() {
    let config = OptimizerConfig::Radam(AdamConfig {
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-8,
        weight_decay: 0.1,
    });
    let adapted = std::cell::Cell::new([0, 0]);
    follows(&config, |x, [m, v], g, lr, t| {
        *x *= 1. - lr * 0.1;
        *m = 0.9 * *m + 0.1 * g;
        *v = 0.999 * *v + 0.001 * g * g;
        let m_hat = *m / (1. - 0.9f64.powi(t));
        let bias = 1. - 0.999f64.powi(t);
        let rho_inf = 1999.;
        let rho = rho_inf - 2. * f64::from(t) * 0.999f64.powi(t) / bias;
        let [plain, rectified] = adapted.get();
        if rho > 5. {
            let r2 = (rho - 4.) * (rho - 2.) * rho_inf;
            let r = (r2 / ((rho_inf - 4.) * (rho_inf - 2.) * rho)).sqrt();
            *x -= lr * m_hat * r * bias.sqrt() / (v.sqrt() + 1e-8);
            adapted.set([plain, rectified + 1]);
        } else {
            *x -= lr * m_hat;
            adapted.set([plain + 1, rectified]);
        }
    });
    // Two precisions, four numbers: five plain steps, the rest rectified.
    assert_eq!(adapted.get(), [8 * 5, 8 * (STEPS as i32 - 5)]);
}

#[test]
fn sgd_accumulates_gradients_with_and_without_nesterov() {
    for (mu, nesterov) in [(0.9, false), (0.9, true), (0., false)] {
        follows(&OptimizerConfig::Sgd { momentum: mu, nesterov }, |x, [m, _], g, lr, t| {
            *m = if t == 1 { g } else { mu * *m + g };
            *x -= lr * if nesterov { g + mu * *m } else { *m };
        });
    }
}
