//! What a setting is: one row says where it is in a configuration, its flag, help and range. From a list of rows follow the
//! flags of a verb, what is typed over a configuration, the checks, and the record in files.

use std::any::Any;

use clap::builder::ValueParser;
use clap::{Arg, ArgAction, ArgMatches};
use serde::de::DeserializeOwned;
use serde::ser::{Error as _, SerializeMap};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// What a setting can be: a number, a word, one of some choices, a switch, or nothing of these.
pub(crate) trait Kind: Clone + PartialEq + Serialize + DeserializeOwned + Send + Sync + 'static {
    /// What its flag is read as.
    type Typed: Any + Clone + Send + Sync;
    /// How; `None`: a switch, which takes no value.
    fn parser() -> Option<ValueParser>;
    /// The setting of what was typed.
    fn of(typed: &Self::Typed) -> Self;
    /// As a number, for the checks of its range; `None`: not one, or none given.
    fn number(&self) -> Option<f64> {
        None
    }
    /// As it is typed.
    fn words(&self) -> String;
    /// What it is in a file that does not have it; `None`: the file is not whole.
    fn missing() -> Option<Self> {
        None
    }
}

macro_rules! numbers {
    ($($t:ty),*) => { $(
        impl Kind for $t {
            type Typed = $t;
            fn parser() -> Option<ValueParser> {
                Some(clap::value_parser!($t).into())
            }
            fn of(typed: &$t) -> Self {
                *typed
            }
            fn number(&self) -> Option<f64> {
                Some(*self as f64)
            }
            fn words(&self) -> String {
                self.to_string()
            }
        }
    )* };
}
numbers!(u32, u64, usize, f64);

/// Makes settings of enums that clap can read.
macro_rules! choices {
    ($($t:ty),*) => { $(
        impl $crate::train::setting::Kind for $t {
            type Typed = $t;
            fn parser() -> Option<clap::builder::ValueParser> {
                Some(clap::value_parser!($t).into())
            }
            fn of(typed: &$t) -> Self {
                *typed
            }
            fn words(&self) -> String {
                clap::ValueEnum::to_possible_value(self).map_or(String::new(), |v| v.get_name().to_string())
            }
        }
    )* };
}
pub(crate) use choices;

impl Kind for String {
    type Typed = String;
    fn parser() -> Option<ValueParser> {
        Some(clap::value_parser!(String))
    }
    fn of(typed: &String) -> Self {
        typed.clone()
    }
    fn words(&self) -> String {
        self.clone()
    }
}

impl Kind for bool {
    type Typed = bool;
    fn parser() -> Option<ValueParser> {
        None
    }
    fn of(typed: &bool) -> Self {
        *typed
    }
    fn words(&self) -> String {
        if *self { "on" } else { "off" }.into()
    }
}

impl<K: Kind> Kind for Option<K> {
    type Typed = K::Typed;
    fn parser() -> Option<ValueParser> {
        K::parser()
    }
    fn of(typed: &K::Typed) -> Self {
        Some(K::of(typed))
    }
    fn number(&self) -> Option<f64> {
        self.as_ref()?.number()
    }
    fn words(&self) -> String {
        self.as_ref().map_or("none".into(), K::words)
    }
    fn missing() -> Option<Self> {
        Some(None)
    }
}

/// A number that is chosen where it is not given: `auto` as it is typed and in files.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Auto(pub Option<u32>);

impl Kind for Auto {
    type Typed = Auto;
    fn parser() -> Option<ValueParser> {
        Some(ValueParser::new(|text: &str| match text.parse() {
            _ if text == "auto" => Ok(Auto(None)),
            Ok(n) => Ok(Auto(Some(n))),
            Err(_) => Err("it must be `auto` or a whole number"),
        }))
    }
    fn of(typed: &Auto) -> Self {
        *typed
    }
    fn number(&self) -> Option<f64> {
        self.0.map(f64::from)
    }
    fn words(&self) -> String {
        self.0.map_or("auto".into(), |n| n.to_string())
    }
}

impl Serialize for Auto {
    fn serialize<S: Serializer>(&self, s: S) -> std::result::Result<S::Ok, S::Error> {
        match self.0 {
            Some(n) => s.serialize_u32(n),
            None => s.serialize_str("auto"),
        }
    }
}

impl<'de> Deserialize<'de> for Auto {
    fn deserialize<D: Deserializer<'de>>(d: D) -> std::result::Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Number {
            Given(u32),
            Word(String),
        }
        match Number::deserialize(d)? {
            Number::Given(n) => Ok(Auto(Some(n))),
            Number::Word(w) if w == "auto" => Ok(Auto(None)),
            Number::Word(w) => Err(serde::de::Error::custom(format!("{w:?} is neither `auto` nor a number"))),
        }
    }
}

/// Where a setting is in the configuration `C`.
pub(crate) struct SettingPlace<C, K> {
    pub path: &'static str,
    pub get: fn(&C) -> K,
    pub set: fn(&mut C, K),
}

/// What a number must be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rule {
    /// In words, after "it must".
    pub words: &'static str,
    pub holds: fn(f64) -> bool,
}

/// The flag of a setting.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Flag {
    /// Without the dashes.
    pub name: &'static str,
    /// What its value is called.
    pub value: &'static str,
    pub help: &'static str,
}

/// One setting of the configuration `C`.
pub(crate) struct Setting<C> {
    /// Its place in files: `adam.lr` is `lr` in the group `adam`.
    pub key: String,
    /// `None`: it follows from others.
    pub flag: Option<Flag>,
    /// What it is listed under.
    pub heading: &'static str,
    /// The flag's name of before.
    alias: Option<&'static str>,
    pub rules: &'static [Rule],
    /// May it change when a run is taken up again?
    pub may_change: bool,
    /// Does only the CPU have it?
    pub cpu_only: bool,
    /// May older files lack it? It is then what it was before there was the setting.
    later: bool,
    value: Box<dyn AnyPlace<C>>,
}

/// A setting without a flag.
pub(crate) fn kept<C: 'static, K: Kind>(place: SettingPlace<C, K>) -> Setting<C> {
    // The model's settings are not in a group of their own in files.
    let path = place.path.strip_prefix(".model").unwrap_or(place.path);
    Setting {
        key: path.trim_start_matches('.').to_string(),
        flag: None,
        heading: "",
        alias: None,
        rules: &[],
        may_change: false,
        cpu_only: false,
        later: false,
        value: Box::new(place),
    }
}

/// A setting with a flag `--name VALUE`.
pub(crate) fn flag<C: 'static, K: Kind>(
    name: &'static str,
    value: &'static str,
    place: SettingPlace<C, K>,
    help: &'static str,
) -> Setting<C> {
    Setting { flag: Some(Flag { name, value, help }), ..kept(place) }
}

impl<C> Setting<C> {
    pub(crate) fn rules(self, rules: &'static [Rule]) -> Self {
        Setting { rules, ..self }
    }

    pub(crate) fn may_change(self) -> Self {
        Setting { may_change: true, ..self }
    }

    pub(crate) fn cpu_only(self) -> Self {
        Setting { cpu_only: true, ..self }
    }

    /// Older files lack it.
    pub(crate) fn later(self) -> Self {
        Setting { later: true, ..self }
    }

    /// The flag had this name, and still takes it.
    pub(crate) fn alias(self, name: &'static str) -> Self {
        Setting { alias: Some(name), ..self }
    }

    /// It is listed under this.
    pub(crate) fn under(self, heading: &'static str) -> Self {
        Setting { heading, ..self }
    }

    /// Its flag for the parser.
    pub(crate) fn arg(&self) -> Option<Arg> {
        let flag = self.flag?;
        let arg = Arg::new(flag.name).long(flag.name).help(flag.help).help_heading(self.heading).aliases(self.alias);
        Some(match self.value.parser() {
            Some(parser) => arg.value_name(flag.value).value_parser(parser).action(ArgAction::Set),
            None => arg.action(ArgAction::SetTrue),
        })
    }

    /// Takes over what was typed, if it was.
    pub(crate) fn take(&self, typed: &ArgMatches, config: &mut C) {
        if let Some(flag) = self.flag {
            self.value.take(typed, flag.name, config);
        }
    }

    /// As it is typed.
    pub(crate) fn words(&self, config: &C) -> String {
        self.value.words(config)
    }

    /// Is it the same in both?
    pub(crate) fn same(&self, a: &C, b: &C) -> bool {
        self.value.same(a, b)
    }

    /// Checks its range. The message names the flag.
    pub(crate) fn check(&self, config: &C) -> Result<()> {
        let (Some(flag), Some(number)) = (self.flag, self.value.number(config)) else { return Ok(()) };
        match self.rules.iter().find(|r| !(r.holds)(number)) {
            Some(r) => Err(Error::usage(format!("--{} {}: it must {}", flag.name, self.value.words(config), r.words))),
            None => Ok(()),
        }
    }
}

/// A [`SettingPlace`], whatever kind of setting is there.
trait AnyPlace<C>: Send + Sync {
    fn parser(&self) -> Option<ValueParser>;
    fn take(&self, typed: &ArgMatches, name: &str, config: &mut C);
    fn number(&self, config: &C) -> Option<f64>;
    fn words(&self, config: &C) -> String;
    fn same(&self, a: &C, b: &C) -> bool;
    fn json(&self, config: &C) -> serde_json::Result<Value>;
    fn read(&self, value: Value, config: &mut C) -> serde_json::Result<()>;
    /// False: it must be there.
    fn missing(&self, config: &mut C) -> bool;
}

impl<C, K: Kind> AnyPlace<C> for SettingPlace<C, K> {
    fn parser(&self) -> Option<ValueParser> {
        K::parser()
    }

    fn take(&self, typed: &ArgMatches, name: &str, config: &mut C) {
        let given = typed.value_source(name).is_some_and(|s| s != clap::parser::ValueSource::DefaultValue);
        if let (true, Some(value)) = (given, typed.get_one::<K::Typed>(name)) {
            (self.set)(config, K::of(value));
        }
    }

    fn number(&self, config: &C) -> Option<f64> {
        (self.get)(config).number()
    }

    fn words(&self, config: &C) -> String {
        (self.get)(config).words()
    }

    fn same(&self, a: &C, b: &C) -> bool {
        (self.get)(a) == (self.get)(b)
    }

    fn json(&self, config: &C) -> serde_json::Result<Value> {
        serde_json::to_value((self.get)(config))
    }

    fn read(&self, value: Value, config: &mut C) -> serde_json::Result<()> {
        (self.set)(config, serde_json::from_value(value)?);
        Ok(())
    }

    fn missing(&self, config: &mut C) -> bool {
        K::missing().map(|value| (self.set)(config, value)).is_some()
    }
}

/// A value, or values in a group, in the order of the file.
enum Entry<'a> {
    Value(Value),
    Group(Vec<(&'a str, Value)>),
}

impl Serialize for Entry<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> std::result::Result<S::Ok, S::Error> {
        match self {
            Entry::Value(value) => value.serialize(s),
            Entry::Group(values) => s.collect_map(values.iter().map(|(key, value)| (key, value))),
        }
    }
}

/// Writes a configuration: the keys of `first` in that order, then the others in the order of the settings.
pub(crate) fn write<C, S: Serializer>(
    settings: &[Setting<C>],
    first: &str,
    config: &C,
    s: S,
) -> std::result::Result<S::Ok, S::Error> {
    let mut entries: Vec<(&str, Entry)> = Vec::new();
    for setting in settings {
        let value = setting.value.json(config).map_err(S::Error::custom)?;
        match setting.key.split_once('.') {
            None => entries.push((&setting.key, Entry::Value(value))),
            Some((group, key)) => match entries.iter_mut().find(|e| e.0 == group) {
                Some((_, Entry::Group(values))) => values.push((key, value)),
                _ => entries.push((group, Entry::Group(vec![(key, value)]))),
            },
        }
    }
    entries.sort_by_key(|e| first.split(' ').position(|f| f == e.0).unwrap_or(usize::MAX));
    let mut map = s.serialize_map(Some(entries.len()))?;
    for (key, entry) in &entries {
        map.serialize_entry(key, entry)?;
    }
    map.end()
}

/// Reads a configuration over `config`, which has what older files lack. What is wrong, in words.
pub(crate) fn read<C>(
    settings: &[Setting<C>],
    mut file: Map<String, Value>,
    config: &mut C,
) -> std::result::Result<(), String> {
    for setting in settings {
        let found = match setting.key.split_once('.') {
            None => file.remove(&setting.key),
            Some((group, key)) => match file.get_mut(group) {
                Some(Value::Object(values)) => values.remove(key),
                Some(_) => return Err(format!("`{group}` is no group of settings")),
                None => None,
            },
        };
        match found {
            Some(value) => setting.value.read(value, config).map_err(|e| format!("`{}`: {e}", setting.key))?,
            None if setting.later || setting.value.missing(config) => {}
            None => return Err(format!("missing field `{}`", setting.key)),
        }
    }
    // Of a group that is known nothing may be left.
    let group = |name: &str| settings.iter().any(|s| s.key.split_once('.').is_some_and(|k| k.0 == name));
    for (key, value) in &file {
        match value {
            Value::Object(rest) if group(key) => {
                if let Some(inner) = rest.keys().next() {
                    return Err(format!("unknown field `{key}.{inner}`"));
                }
            }
            _ => return Err(format!("unknown field `{key}`")),
        }
    }
    Ok(())
}
