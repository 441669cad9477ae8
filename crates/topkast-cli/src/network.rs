//! Networks in words.

use topkast_train::LayerSummary;
use topkast_train::config::ModelConfig;

/// What a network is: its kind and sizes, those of an MLP from its `layers`, if they are known.
pub(crate) fn describe(model: &ModelConfig, layers: &[LayerSummary]) -> String {
    match model {
        ModelConfig::Mlp(_) => {
            let inputs = layers.first().map(|layer| layer.shape[1]);
            let units = inputs.into_iter().chain(layers.iter().map(|layer| layer.shape[0]));
            let units: Vec<String> = units.map(|units| units.to_string()).collect();
            if units.is_empty() { "MLP".to_owned() } else { format!("MLP of {} units", units.join("-")) }
        }
        ModelConfig::Resnet(model) => {
            let wide =
                if model.widen > 1 { format!(", {} times as wide", model.widen) } else { String::new() };
            format!("ResNet-{}{wide}", model.depth)
        }
        ModelConfig::TransformerXl(model) => {
            let counted = |count: usize, what| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
            let (layers, heads) = (counted(model.layers, "layer"), counted(model.heads, "head"));
            let table = if model.adaptive_cutoffs.is_empty() { "" } else { ", adaptive embedding" };
            format!(
                "Transformer-XL, {layers} of {}, {heads}, feed-forward {}{table}",
                model.width, model.feed_forward
            )
        }
    }
}
