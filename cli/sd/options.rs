//! The wish and the method, as options of commands and in one word.

use crate::images::ImageArgs;
use crate::units::parse_size;
use clap::{Args, ValueEnum};
use sdc_passes::decompose::released::ReleasedOptions;
use sdc_passes::decompose::{Options, Solver, Wish};
use std::collections::BTreeSet;

/// What is wished for: one of these.
#[derive(Args, Debug, Clone, Default)]
#[group(multiple = false)]
pub struct WishArgs {
    /// Make the weights file this many times smaller than four bytes per weight and bias [default: 7]
    #[arg(long, value_name = "X")]
    ratio: Option<f64>,
    /// Store this many bits per weight and bias, everything counted
    #[arg(long, value_name = "X")]
    bits: Option<f64>,
    /// Keep this share of the rows of weights, over all layers that can be pruned
    #[arg(long, value_name = "X")]
    density: Option<f64>,
    /// Allow this error at the outputs: squared, relative to their variance
    #[arg(long, value_name = "X")]
    budget: Option<f64>,
    /// Make the weights file no larger than this (suffixes K, M, G)
    #[arg(long, value_name = "BYTES", value_parser = parse_size)]
    size: Option<usize>,
}

/// How weights are solved for.
#[derive(Args, Debug, Clone, Default)]
pub struct SolverArgs {
    /// With --density: keep this share of the rows of one layer, named by its node; may be repeated
    #[arg(long, value_name = "NODE=X", value_parser = parse_layer_density)]
    layer_density: Vec<(String, f64)>,
    /// Method that finds the compressed weights
    #[arg(long, value_enum, default_value_t)]
    solver: SolverName,
    /// Threshold of the released solver, in units of the weights [default: 0.001]
    #[arg(long, value_name = "X")]
    theta: Option<f64>,
    /// Inputs used for calibration at most
    #[arg(long, value_name = "N")]
    samples: Option<usize>,
    /// Seed of everything random
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Threads; 0 is as many as the machine has cores. The result does not depend on it
    #[arg(long, value_name = "N", default_value_t = 0)]
    threads: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
pub enum SolverName {
    /// the solver that the authors of SmartDeal released
    Released,
    /// exact row search under plain squared error
    RowSearch,
    /// row search weighted by what the weights alone say of the layers' inputs
    Curvature,
    /// row search weighted by measured moments, with error feedback from layer to layer
    #[default]
    Feedback,
}

/// All there is to say of a compression.
#[derive(Debug, Clone, Default)]
pub struct SdOptions {
    wish: WishArgs,
    solver: SolverArgs,
    /// Mean and standard deviation of the elements of an image, as the model gets it.
    image: Option<(f64, f64)>,
}

impl SdOptions {
    pub fn new(wish: &WishArgs, solver: &SolverArgs, image: &ImageArgs) -> Self {
        Self {
            wish: wish.clone(),
            solver: solver.clone(),
            image: image.statistics(),
        }
    }

    /// Options as `--sd` takes them: `ratio=8`, `bits=4,solver=curvature`...
    pub fn parse(text: &str, image: &ImageArgs) -> Result<Self, String> {
        let mut options = Self {
            image: image.statistics(),
            ..Self::default()
        };
        let mut given = BTreeSet::new();
        let mut wishes = 0;
        for item in text.split(',').filter(|item| !item.is_empty()) {
            let (key, value) = item
                .split_once('=')
                .ok_or_else(|| format!("`{item}`: expected KEY=VALUE"))?;
            if !given.insert(key) {
                return Err(format!("`{key}` is given twice"));
            }
            let number = || {
                value
                    .parse::<f64>()
                    .map_err(|_| format!("{key}: `{value}` is no number"))
            };
            let whole = || {
                value
                    .parse::<u64>()
                    .map_err(|_| format!("{key}: `{value}` is no whole number"))
            };
            wishes += usize::from(matches!(key, "ratio" | "bits" | "density" | "budget" | "size"));
            match key {
                "ratio" => options.wish.ratio = Some(number()?),
                "bits" => options.wish.bits = Some(number()?),
                "density" => options.wish.density = Some(number()?),
                "budget" => options.wish.budget = Some(number()?),
                "size" => options.wish.size = Some(parse_size(value)?),
                "solver" => options.solver.solver = SolverName::from_str(value, false)?,
                "theta" => options.solver.theta = Some(number()?),
                "samples" => options.solver.samples = Some(whole()? as usize),
                "seed" => options.solver.seed = Some(whole()?),
                _ => {
                    return Err(format!(
                        "`{key}` is none of ratio, bits, density, budget, size, solver, theta, samples, seed"
                    ));
                }
            }
        }
        if wishes > 1 {
            return Err("only one of ratio, bits, density, budget and size can be given".into());
        }
        Ok(options)
    }

    /// What is asked for.
    pub fn wish(&self) -> Wish {
        let w = &self.wish;
        match (w.ratio, w.bits, w.density, w.budget, w.size) {
            (Some(x), ..) => Wish::Ratio(x),
            (_, Some(x), ..) => Wish::Bits(x),
            (_, _, Some(x), ..) => Wish::Density(x),
            (_, _, _, Some(x), _) => Wish::Budget(x),
            (.., Some(x)) => Wish::Size(x),
            _ => Wish::Ratio(7.0),
        }
    }

    /// The method.
    pub fn solver(&self) -> Solver {
        match self.solver.solver {
            SolverName::Released => {
                let mut options = ReleasedOptions::default();
                options.theta = self.solver.theta.unwrap_or(options.theta);
                Solver::Released(options)
            }
            SolverName::RowSearch => Solver::RowSearch,
            SolverName::Curvature => Solver::Curvature,
            SolverName::Feedback => Solver::Feedback,
        }
    }

    /// Options of the solver that need no calibration inputs; the rest as by default.
    pub fn settings(&self) -> Options<'static> {
        let defaults = Options::default();
        Options {
            solver: self.solver(),
            wish: self.wish(),
            samples: self.solver.samples.unwrap_or(defaults.samples),
            densities: self.solver.layer_density.iter().cloned().collect(),
            seed: self.solver.seed.unwrap_or(defaults.seed),
            threads: self.solver.threads,
            input_mean: self.image.map_or(defaults.input_mean, |i| i.0),
            input_deviation: self.image.map_or(defaults.input_deviation, |i| i.1),
            ..defaults
        }
    }

    /// The wish in words: `ratio 7`.
    pub fn wish_text(&self) -> String {
        match self.wish() {
            Wish::Ratio(x) => format!("ratio {x}"),
            Wish::Bits(x) => format!("bits {x}"),
            Wish::Density(x) => format!("density {x}"),
            Wish::Budget(x) => format!("budget {x}"),
            Wish::Size(x) => format!("size {x}"),
        }
    }

    /// The method's name.
    pub fn solver_name(&self) -> &'static str {
        match self.solver.solver {
            SolverName::Released => "released",
            SolverName::RowSearch => "row-search",
            SolverName::Curvature => "curvature",
            SolverName::Feedback => "feedback",
        }
    }
}

/// `NODE=X`; names may hold `=`.
fn parse_layer_density(text: &str) -> Result<(String, f64), String> {
    let (name, share) = text.rsplit_once('=').ok_or("expected NODE=X")?;
    let share = share.parse().map_err(|_| format!("`{share}` is no number"))?;
    Ok((name.to_owned(), share))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_in_one_word() {
        let parse = |text: &str| SdOptions::parse(text, &ImageArgs::default());
        let options = parse("size=300K,solver=curvature").unwrap();
        assert_eq!(options.wish(), Wish::Size(300 << 10));
        assert_eq!(options.solver_name(), "curvature");
        assert_eq!(parse("").unwrap().wish(), Wish::Ratio(7.0));
        for bad in [
            "ratio",
            "ratio=x",
            "ratio=8,bits=4",
            "ratio=8,ratio=9",
            "colour=1",
            "solver=best",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
