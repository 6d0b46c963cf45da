//! Reading the catalog folder.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use tollgate_collector_core::catalog::{CATALOG_FILE_BYTES_MAX, CATALOG_FILES_MAX};

/// How deep folders may lie in each other: symbolic links may make a circle.
const DEPTH_MAX: usize = 8;

/// Why the folder cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum CatalogDirError {
    /// A file or folder cannot be read.
    #[error("{path}: {source}")]
    Io {
        /// Which one.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A name or content that is not UTF-8.
    #[error("{0} is not UTF-8 text")]
    NotText(PathBuf),
    /// Too many files.
    #[error("{0} has more than the {CATALOG_FILES_MAX} files allowed")]
    TooMany(PathBuf),
    /// Folders in folders, without end.
    #[error(
        "{0} lies more than {DEPTH_MAX} folders deep (expected cards/NAME.toml and the like, or a \
         symbolic link that leads elsewhere than back)"
    )]
    TooDeep(PathBuf),
    /// A file that is too long.
    #[error("{0} is longer than the {CATALOG_FILE_BYTES_MAX} bytes allowed")]
    TooLong(PathBuf),
}

/// All TOML files of the folder and of all folders in it, also where no file of a catalog may stand
/// or its ending is written in another way: path below the folder, with `/`, to content. So a
/// file in the wrong place is refused with its name, and not passed over. Hidden files and folders
/// and other kinds of files are.
pub fn read(dir: &Path) -> Result<BTreeMap<String, String>, CatalogDirError> {
    let mut files = BTreeMap::new();
    collect(dir, "", 1, &mut files)?;
    Ok(files)
}

fn collect(
    dir: &Path,
    prefix: &str,
    depth: usize,
    files: &mut BTreeMap<String, String>,
) -> Result<(), CatalogDirError> {
    let failed = |source| CatalogDirError::Io {
        path: dir.to_owned(),
        source,
    };
    for entry in fs::read_dir(dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let Some(name) = name else {
            return Err(CatalogDirError::NotText(path));
        };
        if name.starts_with('.') {
            continue;
        }
        let below = format!("{prefix}{name}");
        // Follows symbolic links, as deployed folders often consist of them.
        let metadata = fs::metadata(&path).map_err(|source| CatalogDirError::Io {
            path: path.clone(),
            source,
        })?;
        if metadata.is_dir() && depth > DEPTH_MAX {
            return Err(CatalogDirError::TooDeep(path));
        }
        if metadata.is_dir() {
            collect(&path, &format!("{below}/"), depth + 1, files)?;
        } else if metadata.is_file()
            && path
                .extension()
                .is_some_and(|extension| extension.eq_ignore_ascii_case("toml"))
        {
            if files.len() == CATALOG_FILES_MAX {
                return Err(CatalogDirError::TooMany(dir.to_owned()));
            }
            files.insert(below, read_file(&path)?);
        }
    }
    Ok(())
}

fn read_file(path: &Path) -> Result<String, CatalogDirError> {
    let failed = |source| CatalogDirError::Io {
        path: path.to_owned(),
        source,
    };
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(failed)?;
    file.take(CATALOG_FILE_BYTES_MAX as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() > CATALOG_FILE_BYTES_MAX {
        return Err(CatalogDirError::TooLong(path.to_owned()));
    }
    String::from_utf8(bytes).map_err(|_| CatalogDirError::NotText(path.to_owned()))
}

#[cfg(test)]
mod tests {
    use tollgate_collector_core::catalog::Catalog;

    use super::*;

    #[test]
    fn reads_toml_wherever_it_stands() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let write = |name: &str, content: &[u8]| {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().expect("has a parent")).expect("creates");
            fs::write(path, content).expect("writes");
        };
        for name in [
            "meters.toml",
            "cards/a.toml",
            "profiles/b.toml",
            "README.md",
            ".x.toml",
            "cards/.a.toml.swp",
            "cards/2026/c.toml",
            "cards/new.TOML",
            ".git/x.toml",
        ] {
            write(name, name.as_bytes());
        }
        let files = read(dir.path()).expect("reads");
        let names: Vec<_> = files.keys().map(String::as_str).collect();
        let expected = [
            "cards/2026/c.toml",
            "cards/a.toml",
            "cards/new.TOML",
            "meters.toml",
            "profiles/b.toml",
        ];
        assert_eq!(names, expected);
        assert_eq!(files["cards/a.toml"], "cards/a.toml");
        for wrong in ["cards/2026/c.toml", "cards/new.TOML"] {
            let refused = Catalog::parse(&files).expect_err("not a place for a file");
            assert!(
                refused.to_string().contains(&format!("{wrong}: ")),
                "{refused}"
            );
        }

        write("bad.toml", &[0xff]);
        assert!(matches!(read(dir.path()), Err(CatalogDirError::NotText(_))));
        write("bad.toml", &vec![b'#'; CATALOG_FILE_BYTES_MAX + 1]);
        assert!(matches!(read(dir.path()), Err(CatalogDirError::TooLong(_))));
        assert!(matches!(
            read(&dir.path().join("none")),
            Err(CatalogDirError::Io { .. })
        ));
    }
    #[cfg(unix)]
    #[test]
    fn a_circle_of_folders_ends() {
        let dir = tempfile::tempdir().expect("temporary folder");
        std::os::unix::fs::symlink(dir.path(), dir.path().join("again")).expect("links");
        assert!(matches!(read(dir.path()), Err(CatalogDirError::TooDeep(_))));
    }
}
