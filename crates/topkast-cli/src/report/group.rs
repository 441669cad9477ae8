//! Runs that belong together: those that differ by seed only.

use std::path::{Path, PathBuf};

use super::run_data::RunData;
use super::series::Point;
use super::style::Style;

/// The runs of one cell of a comparison, or a run of its own.
pub(super) struct Group<'a> {
    /// As it is shown.
    pub(super) name: String,
    pub(super) runs: Vec<&'a RunData>,
    /// None where there are more groups than can be told apart.
    pub(super) style: Option<Style>,
    /// Whether the style is that of its method at every level.
    by_method: bool,
}

/// Groups whose curves are shown together.
pub(super) struct Panel<'a, 'b> {
    /// The sparsity that they have in common.
    pub(super) level: Option<&'b str>,
    pub(super) groups: Vec<&'b Group<'a>>,
    /// How many more there would be.
    pub(super) left_out: usize,
}

/// The runs, each once, in the order in which they are named; `NAME/seed-1` and `NAME/seed-2` together.
pub(super) fn groups(runs: &[RunData]) -> Vec<Group<'_>> {
    let mut grouped: Vec<(PathBuf, Vec<(PathBuf, &RunData)>)> = Vec::new();
    for run in runs {
        let path = run.path.canonicalize().unwrap_or_else(|_| run.path.clone());
        let of = cell(&path).unwrap_or(&path);
        let at = grouped.iter().position(|(key, _)| key == of).unwrap_or_else(|| {
            grouped.push((of.to_owned(), Vec::new()));
            grouped.len() - 1
        });
        let members = &mut grouped[at].1;
        if members.iter().all(|(other, _)| *other != path) {
            members.push((path, run));
        }
    }
    let names = names(&grouped.iter().map(|(key, _)| key.as_path()).collect::<Vec<_>>());
    let mut groups: Vec<Group<'_>> = names
        .into_iter()
        .zip(grouped)
        .map(|(name, (_, members))| Group {
            name,
            runs: members.into_iter().map(|(_, run)| run).collect(),
            style: None,
            by_method: false,
        })
        .collect();
    give_styles(&mut groups);
    groups
}

/// The directory of the cell whose runs differ by seed, where `path` is one of these.
fn cell(path: &Path) -> Option<&Path> {
    let seed = path.file_name()?.to_str()?.strip_prefix("seed-")?;
    let is_number = !seed.is_empty() && seed.bytes().all(|byte| byte.is_ascii_digit());
    path.parent().filter(|parent| is_number && parent.file_name().is_some())
}

/// The last part of each path, or all of it where others end alike.
fn names(paths: &[&Path]) -> Vec<String> {
    let last = |path: &Path| {
        path.file_name()
            .map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
    };
    let alike = |path: &Path| paths.iter().filter(|other| last(other) == last(path)).count() > 1;
    paths.iter().map(|path| if alike(path) { path.display().to_string() } else { last(path) }).collect()
}

/// Each group its own while there are few; else each method its own, the same at every level.
fn give_styles(groups: &mut [Group<'_>]) {
    let few = groups.len() <= Style::COUNT;
    let mut methods: Vec<String> = Vec::new();
    for (number, group) in groups.iter_mut().enumerate() {
        let method = group.method().to_owned();
        let of_method = methods.iter().position(|other| *other == method).unwrap_or_else(|| {
            methods.push(method);
            methods.len() - 1
        });
        group.style = Style::new(if few { number } else { of_method });
        group.by_method = !few;
    }
}

/// All groups at once while there are few; else level by level, with those that have none in each.
pub(super) fn panels<'a, 'b>(groups: &'b [Group<'a>]) -> Vec<Panel<'a, 'b>> {
    let panel = |level: Option<&'b str>| {
        let at_level = groups
            .iter()
            .filter(|group| level.is_none() || group.level().is_none_or(|other| Some(other) == level));
        let (shown, left_out): (Vec<_>, Vec<_>) = at_level.partition(|group| group.style.is_some());
        Panel { level, groups: shown, left_out: left_out.len() }
    };
    let mut levels: Vec<&str> = Vec::new();
    for level in groups.iter().filter_map(Group::level) {
        if !levels.contains(&level) {
            levels.push(level);
        }
    }
    if groups.len() <= Style::COUNT || levels.is_empty() {
        return vec![panel(None)];
    }
    levels.into_iter().map(|level| panel(Some(level))).collect()
}

impl Group<'_> {
    /// Of a name `METHOD@LEVEL`, or all of it.
    fn method(&self) -> &str {
        self.name.split_once('@').map_or(&self.name, |(method, _)| method)
    }

    /// What its style stands for.
    pub(super) fn label(&self) -> &str {
        if self.by_method { self.method() } else { &self.name }
    }

    fn level(&self) -> Option<&str> {
        self.name.split_once('@').map(|(_, level)| level)
    }

    /// Mean, least and largest of a number of its runs, of those that have it, against the mean of another.
    pub(super) fn point(
        &self,
        x: impl Fn(&RunData) -> Option<f64>,
        y: impl Fn(&RunData) -> Option<f64>,
    ) -> Option<Point> {
        Point::of(self.runs.iter().filter_map(|run| Some((x(run)?, y(run)?))))
    }

    /// The mean of a number of its runs, of those that have it.
    pub(super) fn mean(&self, value: impl Fn(&RunData) -> Option<f64>) -> Option<f64> {
        self.point(|_| Some(0.0), value).map(|point| point.mean)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_a_cell_are_in_directories_named_by_seed() {
        assert_eq!(cell(Path::new("/a/set@90/seed-12")), Some(Path::new("/a/set@90")));
        for path in ["/a/seed-", "/a/seed-x", "/a/b", "/seed-1", "/"] {
            assert_eq!(cell(Path::new(path)), None, "{path}");
        }
    }

    #[test]
    fn names_are_short_where_that_is_enough() {
        let paths = ["/a/x", "/b/x", "/b/y", "/"].map(Path::new);
        assert_eq!(names(&paths), ["/a/x", "/b/x", "y", "/"]);
    }

    fn some(names: &[&str]) -> Vec<Group<'static>> {
        let mut groups: Vec<_> = names
            .iter()
            .map(|&name| Group { name: name.to_owned(), runs: Vec::new(), style: None, by_method: false })
            .collect();
        give_styles(&mut groups);
        groups
    }

    #[test]
    fn few_groups_are_one_panel_with_a_style_each() {
        let groups = some(&["a@1", "a@2", "b"]);
        let panels = panels(&groups);
        assert_eq!((panels.len(), panels[0].groups.len(), panels[0].level), (1, 3, None));
        assert_ne!(groups[0].style, groups[1].style);
    }

    #[test]
    fn many_groups_are_a_panel_for_each_level() {
        let names: Vec<String> = ["90", "95"]
            .iter()
            .flat_map(|level| (0..14).map(move |method| format!("m{method}@{level}")))
            .collect();
        let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
        names.insert(0, "dense");
        let groups = some(&names);
        let panels = panels(&groups);
        assert_eq!(panels.iter().map(|panel| panel.level).collect::<Vec<_>>(), [Some("90"), Some("95")]);
        for panel in &panels {
            assert_eq!((panel.groups.len(), panel.left_out), (Style::COUNT, 3));
            assert_eq!(panel.groups[0].name, "dense");
        }
        assert_eq!(groups[1].style, groups[15].style);
        assert!(groups[1].style != groups[2].style && groups[14].style.is_none());
    }
}
