//! How strongly the exploration penalty pulls: λ/D on B∖A grows without bound as layers get sparser.

use topkast_nn::{Network, ParameterMut};

use crate::config::{Config, OptimizerKind, PenaltyName};

/// What the penalty does to B∖A of a layer from one refresh to the next.
#[derive(Clone, Debug, PartialEq)]
pub struct Pull {
    /// The layer.
    pub layer: String,
    /// λ/D.
    pub coefficient: f64,
    /// Its values shrink to about e to the minus this.
    pub exponent: f64,
    /// The largest λ for which that is 1.
    pub moderate_penalty: f64,
}

/// Layers in which the penalty alone takes more than e⁻¹ leaves of B∖A before it is chosen again: what is explored is then
/// replaced each time, whatever its gradient. Of L1 penalties, and of Adam, which scales them, nothing is told.
pub(crate) fn too_strong(network: &mut Network, config: &Config) -> Vec<Pull> {
    let optimizer = &config.optimizer;
    let each_step = match (optimizer.kind, optimizer.penalty_kind) {
        (OptimizerKind::Sgd, PenaltyName::L2) => optimizer.lr / (1.0 - optimizer.momentum),
        (OptimizerKind::AdamW, PenaltyName::L2) => optimizer.lr,
        _ => return Vec::new(),
    };
    let per_refresh = each_step * config.sparsity.refresh_every as f64;
    let mut pulls = Vec::new();
    network.visit(&mut |name, parameter| {
        let ParameterMut::Sparse(weight) = parameter else { return };
        let counts = weight.counts();
        let coefficient = optimizer.penalty / weight.density();
        let exponent = coefficient * per_refresh;
        if counts.backward > counts.active && exponent > 1.0 {
            let layer = name.strip_suffix(".weight").unwrap_or(name).to_owned();
            let moderate_penalty = optimizer.penalty / exponent;
            pulls.push(Pull { layer, coefficient, exponent, moderate_penalty });
        }
    });
    pulls
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pulls(settings: &[&str]) -> Vec<Pull> {
        let base = ["model.hidden=[1000, 1000]", "sparsity.forward=0.9999", "sparsity.backward=0.999"];
        let settings: Vec<String> = base.iter().chain(settings).map(|&setting| setting.to_owned()).collect();
        let config = Config::load(None, &settings).unwrap();
        too_strong(&mut config.network([784, 1, 1], 10).unwrap(), &config)
    }

    #[test]
    fn a_strong_pull_is_told() {
        let told = pulls(&["optimizer.penalty=1e-5"]);
        let layers: Vec<&str> = told.iter().map(|pull| pull.layer.as_str()).collect();
        assert_eq!(layers, ["hidden.0", "hidden.1"]);
        // λ/D = 0.1, learning rate 0.05, momentum 0.9, 100 steps.
        let Pull { coefficient, exponent, moderate_penalty, .. } = &told[1];
        assert!((coefficient - 0.1).abs() < 1e-9 && (exponent - 5.0).abs() < 1e-6);
        assert!((moderate_penalty - 2e-6).abs() < 1e-12);
    }

    #[test]
    fn a_moderate_one_is_not() {
        assert_eq!(pulls(&["optimizer.penalty=1e-6"]), []);
        assert_eq!(pulls(&["optimizer.penalty=1", "sparsity.explore=none"]), []);
        assert_eq!(pulls(&["optimizer.penalty=1", "optimizer.penalty_kind=l1"]), []);
        assert_eq!(pulls(&["optimizer.penalty=1", "optimizer.kind=adam"]), []);
        assert_eq!(pulls(&["optimizer.penalty=1", "sparsity.method=static"]), []);
    }
}
