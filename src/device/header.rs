//! Reads the launch ABI, `kernels/common/abi.h`, and writes it twice: as Rust structs, which `src/device/abi.rs` includes,
//! and as a header of `static_assert`s, which every compilation of a kernel by the build includes.
//!
//! Offsets and sizes are worked out here once. The Rust file asserts them of the Rust structs, the C++ header of the C++
//! structs, so each compiler vouches for its own side and a build in which the two differ fails.
//!
//! The header may hold comments, `#pragma once`, `#include`, constants (`#define SCX_NAME 64u  // what`) and structs of
//! numbers, pointers and structs. Anything else stops the build with the header's line. A comment right above a struct and
//! one behind a field become their documentation.

use std::fmt::Write as _;

/// The numbers a field can be of: in C++, in Rust, bytes (which is their alignment as well).
const NUMBERS: [(&str, &str, usize); 6] = [
    ("uint8_t", "u8", 1),
    ("int32_t", "i32", 4),
    ("uint32_t", "u32", 4),
    ("uint64_t", "u64", 8),
    ("float", "f32", 4),
    ("double", "f64", 8),
];

/// Bytes of a device address.
const POINTER: usize = 8;

/// Fields whose names are words of Rust: in C++, in Rust.
const RENAMED: [(&str, &str); 1] = [("in", "inp")];

/// What a header says.
#[derive(Debug, Default, PartialEq)]
pub struct Header {
    /// Its constants, in order.
    pub constants: Vec<Constant>,
    /// Its structs, in order.
    pub structs: Vec<Struct>,
}

/// `#define SCX_NAME value  // doc`
#[derive(Debug, PartialEq)]
pub struct Constant {
    /// The name without `SCX_`.
    pub name: String,
    /// The value.
    pub value: u32,
    /// What the comment says.
    pub doc: String,
}

/// A struct and how it lies in memory.
#[derive(Debug, PartialEq)]
pub struct Struct {
    /// Its name.
    pub name: String,
    /// The comment above it, line by line.
    pub doc: Vec<String>,
    /// Its fields, in order.
    pub fields: Vec<Field>,
    /// Bytes.
    pub size: usize,
    /// Bytes it is aligned to.
    pub align: usize,
    /// Is it without device addresses? Then it may be made of any bytes.
    pub plain: bool,
}

/// A field of a struct.
#[derive(Debug, PartialEq)]
pub struct Field {
    /// Its name in the header.
    pub name: String,
    /// Its type in Rust.
    pub rust: String,
    /// Bytes from the start of the struct.
    pub offset: usize,
    /// What the comment behind it says.
    pub doc: String,
}

/// Size, alignment and spelling of a type.
struct Type {
    rust: String,
    size: usize,
    align: usize,
    plain: bool,
}

impl Header {
    /// Reads the text of a header. `file` is what messages call it.
    ///
    /// # Errors
    /// `FILE:LINE: what is wrong there`.
    pub fn parse(file: &str, text: &str) -> Result<Header, String> {
        let mut header = Header::default();
        let mut doc: Vec<String> = Vec::new(); // the comment that ends above this line
        let mut open: Option<Struct> = None;
        for (i, line) in text.lines().enumerate() {
            let wrong = |what: String| format!("{file}:{}: {what}", i + 1);
            let (code, comment) = match line.split_once("//") {
                Some((code, comment)) => (code.trim(), comment.strip_prefix(' ').unwrap_or(comment).trim_end()),
                None => (line.trim(), ""),
            };
            if code.is_empty() {
                match line.trim().is_empty() {
                    true => doc.clear(),
                    false => doc.push(comment.to_string()),
                }
                continue;
            }
            if let Some(now) = &mut open {
                if code == "};" {
                    close(now).map_err(wrong)?;
                    header.structs.extend(open.take());
                } else {
                    header.declare(now, code, comment).map_err(wrong)?;
                }
            } else if let Some(name) = code.strip_prefix("struct ").and_then(|c| c.strip_suffix('{')) {
                let name = name.trim().to_string();
                if !is_name(&name) {
                    return Err(wrong(format!("`{name}` is no name of a struct")));
                }
                let doc = std::mem::take(&mut doc);
                open = Some(Struct { name, doc, fields: Vec::new(), size: 0, align: 1, plain: true });
            } else if let Some(rest) = code.strip_prefix("#define ") {
                header.constants.push(constant(rest, comment).map_err(wrong)?);
            } else if code != "#pragma once" && !code.starts_with("#include ") {
                return Err(wrong(format!("`{code}` is neither a constant nor a struct")));
            }
            doc.clear();
        }
        match open {
            Some(s) => Err(format!("{file}: struct {} has no end", s.name)),
            None => Ok(header),
        }
    }

    /// Adds what `code` declares (`const float* x;`, `float a, b;`, `uint32_t pad[2];`) to a struct.
    fn declare(&self, to: &mut Struct, code: &str, doc: &str) -> Result<(), String> {
        let Some(code) = code.strip_suffix(';') else { return Err(format!("`{code}` does not end with `;`")) };
        let code = code.trim_start().strip_prefix("const ").unwrap_or(code).trim_start();
        let end = code.find(|c: char| !is_name_char(c)).unwrap_or(code.len());
        let (base, rest) = code.split_at(end);
        let (is_pointer, names) = match rest.trim_start().strip_prefix('*') {
            Some(names) => (true, names),
            None => (false, rest),
        };
        let of = self.type_of(base, is_pointer)?;
        if is_pointer && names.contains(',') {
            return Err("one pointer a line: in C++ the `*` belongs to the first name alone".to_string());
        }
        for declared in names.split(',').map(str::trim) {
            let (name, count) = match declared.strip_suffix(']').and_then(|d| d.split_once('[')) {
                Some((name, count)) => {
                    let count = count.parse().map_err(|_| format!("`{count}` is no number of items"))?;
                    (name, Some(count))
                }
                None => (declared, None),
            };
            if !is_name(name) {
                return Err(format!("`{declared}` is no field"));
            }
            if !to.size.is_multiple_of(of.align) {
                let missing = of.align - to.size % of.align;
                return Err(format!("there would be a hole of {missing} bytes before `{name}`: fill it with a field"));
            }
            to.fields.push(Field {
                name: name.to_string(),
                rust: count.map_or(of.rust.clone(), |n: usize| format!("[{}; {n}]", of.rust)),
                offset: to.size,
                doc: doc.to_string(),
            });
            to.size += of.size * count.unwrap_or(1);
            to.align = to.align.max(of.align);
            to.plain &= of.plain;
        }
        Ok(())
    }

    fn type_of(&self, base: &str, is_pointer: bool) -> Result<Type, String> {
        let number =
            NUMBERS.iter().find(|(name, _, _)| *name == base).map(|(_, rust, size)| (*rust, *size, *size, true));
        let known = self.structs.iter().find(|s| s.name == base).map(|s| (s.name.as_str(), s.size, s.align, s.plain));
        // What nothing is known of is an address of bytes.
        let void = (base == "void" && is_pointer).then_some(("u8", 1, 1, true));
        let Some((rust, size, align, plain)) = number.or(known).or(void) else {
            let names: Vec<&str> = NUMBERS.iter().map(|(name, _, _)| *name).collect();
            return Err(format!("unknown type `{base}`: there are {} and the structs above", names.join(", ")));
        };
        Ok(match is_pointer {
            true => Type { rust: format!("Ptr<{rust}>"), size: POINTER, align: POINTER, plain: false },
            false => Type { rust: rust.to_string(), size, align, plain },
        })
    }

    /// The Rust side: constants, structs, their layout asserted, and a list of all for `args!`.
    pub fn rust(&self) -> String {
        let mut out = String::from("// Written by the build from kernels/common/abi.h.\n");
        for c in &self.constants {
            let _ = writeln!(out, "/// {}\npub const {}: u32 = {};", escaped(&c.doc), c.name, c.value);
        }
        for s in &self.structs {
            let _ = match s.doc.is_empty() {
                true => writeln!(out, "/// `{}` of the kernels' headers.", s.name),
                false => writeln!(out, "/// `{}` of the kernels' headers, which say of it\n/// ```text", s.name),
            };
            s.doc.iter().for_each(|line| out += &format!("/// {line}\n"));
            out += if s.doc.is_empty() { "" } else { "/// ```\n" };
            let plain = if s.plain { ", PartialEq, bytemuck::Pod, bytemuck::Zeroable" } else { "" };
            let _ =
                writeln!(out, "#[repr(C)]\n#[derive(Debug, Clone, Copy, Default{plain})]\npub struct {} {{", s.name);
            for f in &s.fields {
                if !f.doc.is_empty() {
                    let _ = writeln!(out, "    /// {}", escaped(&f.doc));
                }
                let _ = writeln!(out, "    pub {}: {},", in_rust(&f.name), f.rust);
            }
            let _ = writeln!(out, "}}\nconst _: () = {{\n    assert!(size_of::<{}>() == {});", s.name, s.size);
            let _ = writeln!(out, "    assert!(align_of::<{}>() == {});", s.name, s.align);
            for f in &s.fields {
                let (of, field) = (&s.name, in_rust(&f.name));
                let _ = writeln!(out, "    assert!(std::mem::offset_of!({of}, {field}) == {});", f.offset);
            }
            out += "};\n";
        }
        out += "args! {\n";
        for s in &self.structs {
            let fields: Vec<String> = s.fields.iter().map(|f| format!("{:?} {}", f.name, in_rust(&f.name))).collect();
            let _ = writeln!(out, "    {}: [{}];", s.name, fields.join(", "));
        }
        out + "}\n"
    }

    /// The C++ side: the same layout, asserted.
    pub fn cpp(&self) -> String {
        let mut out = String::from("// Written by the build: what the Rust side takes abi.h to say.\n#pragma once\n");
        out += "#include \"common/abi.h\"\n";
        for c in &self.constants {
            let _ = writeln!(out, "static_assert(SCX_{0} == {1}u, \"SCX_{0}\");", c.name, c.value);
        }
        for s in &self.structs {
            let _ = writeln!(out, "static_assert(sizeof({0}) == {1}, \"size of {0}\");", s.name, s.size);
            let _ = writeln!(out, "static_assert(alignof({0}) == {1}, \"alignment of {0}\");", s.name, s.align);
            for f in &s.fields {
                let (name, field, offset) = (&s.name, &f.name, f.offset);
                let at = format!("__builtin_offsetof({name}, {field}) == {offset}");
                let _ = writeln!(out, "static_assert({at}, \"{name}::{field}\");");
            }
        }
        out
    }
}

/// The text with nothing but the struct of that name and the comment above it. Lines keep their numbers.
pub fn only(text: &str, name: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let first = lines.iter().position(|l| l.trim() == format!("struct {name} {{")).unwrap_or(lines.len());
    let above = lines[..first].iter().rev().take_while(|l| l.trim_start().starts_with("//")).count();
    let last = lines[first..].iter().position(|l| l.trim() == "};").map_or(first, |n| first + n + 1);
    (0..last).map(|i| if i + above < first { "\n".to_string() } else { format!("{}\n", lines[i]) }).collect()
}

/// Ends a struct: it must have fields, and its size must be a multiple of its alignment without filling.
fn close(s: &Struct) -> Result<(), String> {
    if s.fields.is_empty() {
        return Err(format!("struct {} has no fields", s.name));
    }
    match s.size % s.align {
        0 => Ok(()),
        over => Err(format!("struct {} would end with a hole of {} bytes: add a `pad`", s.name, s.align - over)),
    }
}

/// `SCX_NAME 64u`
fn constant(code: &str, doc: &str) -> Result<Constant, String> {
    let wrong = || format!("`#define {code}` is not of the form `#define SCX_NAME 64u`");
    let (name, value) = code.trim().split_once(char::is_whitespace).ok_or_else(wrong)?;
    let name = name.strip_prefix("SCX_").filter(|n| is_name(n)).ok_or_else(wrong)?;
    let digits = value.trim().strip_suffix('u').ok_or_else(wrong)?;
    let value = match digits.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16),
        None => digits.parse(),
    };
    Ok(Constant { name: name.to_string(), value: value.map_err(|_| wrong())?, doc: doc.to_string() })
}

fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && name.chars().all(is_name_char)
}

fn in_rust(name: &str) -> &str {
    RENAMED.iter().find(|(c, _)| *c == name).map_or(name, |(_, rust)| rust)
}

/// A comment as one line of documentation, without meaning for Markdown.
fn escaped(doc: &str) -> String {
    let mut out = String::new();
    for c in doc.chars() {
        if "[]<>*_`\\".contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "\
// What it is about.
#pragma once
#include \"cuda.h\"

#define SCX_NONE 0xffffffffu  // no member
#define SCX_TILE 64u          // items [a tile]

// ---------------- a part

// Two numbers.
//   And more.
struct Pair {
  uint32_t first, last;  // of both
};

struct Args {
  const Pair* pairs;  // [n]
  void* out;
  Pair own;
  double rate;
  uint32_t in, out_rows;
  float pad[2];
};
";

    #[test]
    fn a_header_is_read() {
        let header = Header::parse("abi.h", GOOD).unwrap();
        let constants: Vec<_> = header.constants.iter().map(|c| (&*c.name, c.value, &*c.doc)).collect();
        assert_eq!(constants, [("NONE", u32::MAX, "no member"), ("TILE", 64, "items [a tile]")]);
        let [pair, args] = &header.structs[..] else { panic!("{header:?}") };
        assert_eq!((&*pair.name, pair.size, pair.align, pair.plain), ("Pair", 8, 4, true));
        assert_eq!(pair.doc, ["Two numbers.", "  And more."]);
        assert_eq!((&*args.name, args.size, args.align, args.plain), ("Args", 48, 8, false));
        assert!(args.doc.is_empty());
        let fields: Vec<_> = args.fields.iter().map(|f| (&*f.name, &*f.rust, f.offset, &*f.doc)).collect();
        let expected = [
            ("pairs", "Ptr<Pair>", 0, "[n]"),
            ("out", "Ptr<u8>", 8, ""),
            ("own", "Pair", 16, ""),
            ("rate", "f64", 24, ""),
            ("in", "u32", 32, ""),
            ("out_rows", "u32", 36, ""),
            ("pad", "[f32; 2]", 40, ""),
        ];
        assert_eq!(fields, expected);
    }

    #[test]
    fn both_sides_assert_the_same_numbers() {
        let header = Header::parse("abi.h", GOOD).unwrap();
        let (rust, cpp) = (header.rust(), header.cpp());
        for part in [
            "/// items \\[a tile\\]\npub const TILE: u32 = 64;\n",
            "/// ```text\n/// Two numbers.\n///   And more.\n/// ```\n#[repr(C)]\n",
            "Default, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]\npub struct Pair {\n",
            "#[derive(Debug, Clone, Copy, Default)]\npub struct Args {\n    /// \\[n\\]\n    pub pairs: Ptr<Pair>,\n",
            "    pub inp: u32,\n",
            "assert!(size_of::<Args>() == 48);",
            "assert!(align_of::<Args>() == 8);",
            "assert!(std::mem::offset_of!(Args, inp) == 32);",
            "args! {\n    Pair: [\"first\" first, \"last\" last];\n",
        ] {
            assert!(rust.contains(part), "no {part:?} in\n{rust}");
        }
        for part in [
            "#include \"common/abi.h\"\n",
            "static_assert(SCX_NONE == 4294967295u, \"SCX_NONE\");",
            "static_assert(sizeof(Args) == 48, \"size of Args\");",
            "static_assert(alignof(Args) == 8, \"alignment of Args\");",
            "static_assert(__builtin_offsetof(Args, in) == 32, \"Args::in\");",
        ] {
            assert!(cpp.contains(part), "no {part:?} in\n{cpp}");
        }
        let fields: usize = header.structs.iter().map(|s| s.fields.len()).sum();
        assert_eq!(rust.matches("offset_of!").count(), fields);
        assert_eq!(cpp.matches("__builtin_offsetof").count(), fields);
    }

    #[test]
    fn what_is_wrong_is_named_by_its_line() {
        for (text, line, part) in [
            ("struct A {\n  uint32_t n;\n  size_t m;\n};\n", 3, "unknown type `size_t`"),
            ("struct A {\n  Later* x;\n};\nstruct Later {\n  float y;\n};\n", 2, "unknown type `Later`"),
            ("struct A {\n  void x;\n};\n", 2, "unknown type `void`"),
            ("struct A {\n  float* x, y;\n};\n", 2, "one pointer a line"),
            ("struct A {\n  float** x;\n};\n", 2, "`* x` is no field"),
            ("struct A {\n  float x\n};\n", 2, "does not end with `;`"),
            ("struct A {\n  float x[SCX_TILE];\n};\n", 2, "no number of items"),
            ("struct A {\n  float;\n};\n", 2, "is no field"),
            ("struct A {\n  uint32_t n;\n  float* x;\n};\n", 3, "hole of 4 bytes before `x`"),
            ("struct A {\n  float* x;\n  uint32_t n;\n};\n", 4, "end with a hole of 4 bytes"),
            ("struct A {\n};\n", 2, "has no fields"),
            ("struct A : B {\n};\n", 1, "no name of a struct"),
            ("\nenum Kind { kOne };\n", 2, "neither a constant nor a struct"),
            ("#define TILE 64u\n", 1, "not of the form"),
            ("#define SCX_TILE 64\n", 1, "not of the form"),
            ("#define SCX_TILE (2 * 32u)\n", 1, "not of the form"),
            ("#define SCX_SUM(a, b) a + b\n", 1, "not of the form"),
        ] {
            let message = Header::parse("common/abi.h", text).unwrap_err();
            assert!(message.starts_with(&format!("common/abi.h:{line}: ")), "{text}\n{message}");
            assert!(message.contains(part), "{text}\n{message}");
        }
        let open = Header::parse("abi.h", "struct A {\n  float x;\n").unwrap_err();
        assert_eq!(open, "abi.h: struct A has no end");
    }

    #[test]
    fn one_struct_is_taken_out_of_a_text() {
        let text = "#if X\nint y();\n#endif\n\n// Shape.\nstruct Shape {\n  float x;\n};\n\n#define Y(z) z\n";
        let taken = only(text, "Shape");
        assert_eq!(taken, "\n\n\n\n// Shape.\nstruct Shape {\n  float x;\n};\n");
        assert_eq!(Header::parse("cuda.h", &taken).unwrap().structs[0].doc, ["Shape."]);
        let message = Header::parse("cuda.h", &only(&text.replace("float", "real"), "Shape")).unwrap_err();
        assert!(message.starts_with("cuda.h:7: unknown type `real`"), "{message}");
        assert!(Header::parse("cuda.h", &only(text, "None")).unwrap().structs.is_empty());
    }
}
