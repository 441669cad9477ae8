//! From the configuration to a network: which layer gets what.

use topkast::{Counts, Seed, Topology, WeightError, name_matches};
use topkast_nn::{Activation, LayerPlan, Linear, Mlp, MlpShape};

use super::{ActivationKind, Config, ConfigError, Method};

impl Config {
    /// The network's sizes for data with `inputs` features and `classes` classes.
    pub fn shape(&self, inputs: usize, classes: usize) -> MlpShape {
        let activation = match self.model.activation {
            ActivationKind::Relu => Activation::Relu,
            ActivationKind::Gelu => Activation::Gelu,
        };
        let dropout = self.model.dropout as f32;
        MlpShape { inputs, hidden: self.model.hidden.clone(), outputs: classes, activation, dropout }
    }

    /// How each layer of `shape` is made. Layers that are chosen for together have no entries yet.
    ///
    /// # Errors
    /// If a layer's sparsity leaves it no entries, or a pattern matches no layer.
    pub fn plans(&self, shape: &MlpShape) -> Result<Vec<LayerPlan>, ConfigError> {
        let layers = shape.layers();
        let names: Vec<&str> = layers.iter().map(|(name, _)| name.as_str()).collect();
        let kept = self.sparsity.keep_dense.iter().map(|pattern| ("sparsity.keep_dense", pattern));
        let ruled = self.sparsity.layers.iter().map(|layer| ("sparsity.layers", &layer.pattern));
        for (key, pattern) in kept.chain(ruled) {
            if !(0..names.len()).any(|number| layer_matches(pattern, &names, number)) {
                let allowed = format!("matches no layer; there are {}", names.join(", "));
                return Err(ConfigError::value(key, pattern, allowed));
            }
        }
        (0..names.len()).map(|number| self.plan(&names, number, layers[number].1)).collect()
    }

    fn plan(
        &self,
        names: &[&str],
        number: usize,
        [rows, width]: [usize; 2],
    ) -> Result<LayerPlan, ConfigError> {
        let config = &self.sparsity;
        let init = self.model.init.init(config.scale());
        let topology = match config.method {
            Method::Dense => return Ok(LayerPlan::Dense { init }),
            Method::Static => Topology::Static,
            Method::TopKast => Topology::TopKast(config.explore.explore()),
        };
        let matches = |pattern: &str| layer_matches(pattern, names, number);
        if config.keep_dense.iter().any(|pattern| matches(pattern)) {
            return Ok(LayerPlan::Dense { init });
        }
        if config.is_global() {
            let counts = Counts { active: 0, backward: 0 };
            return Ok(LayerPlan::Sparse { counts, topology, init, reservoir: config.reservoir() });
        }
        let own = config.layers.iter().find(|layer| matches(&layer.pattern));
        let (forward, backward) =
            own.map_or((config.forward, config.backward), |layer| (layer.forward, layer.backward));
        let total = rows as u64 * width as u64;
        let counts = config.sparsity(forward, backward, "sparsity")?.counts(total).map_err(|error| {
            ConfigError::value("sparsity.forward", forward, format!("layer {}: {error}", names[number]))
        })?;
        Ok(LayerPlan::Sparse { counts, topology, init, reservoir: config.reservoir() })
    }

    /// A fresh network.
    ///
    /// # Errors
    /// If the sparsity does not fit a layer.
    pub fn network(&self, inputs: usize, classes: usize) -> Result<Mlp, ConfigError> {
        self.network_of(inputs, classes, |_, [outputs, inputs], plan, seed| {
            Linear::new(outputs, inputs, plan, seed)
        })
    }

    /// A network whose layers `make` makes, given their number, outputs and inputs, plan, and seed.
    ///
    /// # Errors
    /// If the sparsity does not fit a layer, or a layer cannot be made.
    pub(crate) fn network_of(
        &self,
        inputs: usize,
        classes: usize,
        mut make: impl FnMut(usize, [usize; 2], &LayerPlan, Seed) -> Result<Linear, WeightError>,
    ) -> Result<Mlp, ConfigError> {
        let shape = self.shape(inputs, classes);
        let plans = self.settled(&shape, self.plans(&shape)?)?;
        let seed = Seed::new(self.seed).named("network");
        let misfit = |error| ConfigError::value("model.hidden", format!("{:?}", self.model.hidden), error);
        let layers = shape.layers().into_iter().zip(&plans).enumerate();
        let linears =
            layers.map(|(number, ((name, size), plan))| make(number, size, plan, seed.named(&name)));
        let mut network = Mlp::from_layers(&shape, linears.collect::<Result<_, _>>().map_err(misfit)?);
        if let Some(mut global) = self.global(&shape)? {
            global.start(&mut network.sparse_weights()).map_err(misfit)?;
        }
        Ok(network)
    }
}

fn layer_matches(pattern: &str, names: &[&str], number: usize) -> bool {
    match pattern {
        "first" => number == 0,
        "last" => number + 1 == names.len(),
        _ => name_matches(pattern, names[number]),
    }
}
