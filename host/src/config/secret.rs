//! Texts that must not be printed, and the keys that a server makes for itself.

use std::fs;
use std::io::{ErrorKind, Write as _};
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use serde::Deserialize;
use subtle::ConstantTimeEq as _;

/// The file in the data folder that keeps a generated admin key.
const ADMIN_KEY_FILE: &str = "admin-key";

/// A text that prints as `***`.
#[derive(Clone, Deserialize)]
#[serde(from = "String")]
pub struct Secret(Arc<str>);

impl Secret {
    /// The text, for the one place that hands it to its owner.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether a client's text is the same, in a time that does not tell how
    /// much of it is.
    pub fn matches(&self, given: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(given).into()
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// The API key: the configured one, or the one in the data folder, which is made
/// on the first start. The flag says that it was made just now.
pub fn api_key(configured: Option<&Secret>, data_dir: &Path) -> anyhow::Result<(Secret, bool)> {
    match configured {
        Some(secret) => Ok((secret.clone(), false)),
        None => kept(&data_dir.join("secret")),
    }
}

/// The key of the admin API, configured or made on the first start as
/// [`api_key`]'s. Who has the API key, such as every client of an app, must not
/// be able to put code into the server, so the two have to differ.
pub fn admin_key(
    configured: Option<&Secret>,
    api_key: &Secret,
    data_dir: &Path,
) -> anyhow::Result<(Secret, bool)> {
    let (key, created) = match configured {
        Some(key) if key.expose().len() < 16 => {
            anyhow::bail!("the setting admin.key must have at least 16 characters")
        }
        Some(key) => (key.clone(), false),
        None => kept(&data_dir.join(ADMIN_KEY_FILE))?,
    };
    if key.matches(api_key.expose().as_bytes()) {
        anyhow::bail!(
            "the settings admin.key and server.secret must differ: clients have the one, operators the other"
        )
    }
    Ok((key, created))
}

/// The admin key that a server has kept in this data folder, if it made one
/// there: how `coglex plugin` finds it on the server's own machine.
pub fn kept_admin_key(data_dir: &Path) -> Option<Secret> {
    let text = fs::read_to_string(data_dir.join(ADMIN_KEY_FILE)).ok()?;
    Some(Secret(text.trim().into())).filter(|key| !key.expose().is_empty())
}

/// The key that signs access tokens. Apart from the API key, so that neither
/// can be derived from the other or has to change with it.
pub fn signing_key(configured: Option<&Secret>, data_dir: &Path) -> anyhow::Result<Secret> {
    match configured {
        // HS256 asks for a key as long as its hash (RFC 7518, section 3.2).
        Some(key) if key.expose().len() < 32 => {
            anyhow::bail!("the setting auth.signing_key must have at least 32 characters")
        }
        Some(key) => Ok(key.clone()),
        None => kept(&data_dir.join("signing-key")).map(|(key, _)| key),
    }
}

/// Makes a folder that only its owner can enter; an existing one stays as it is.
pub fn private_dir(path: &Path) -> anyhow::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder
        .create(path)
        .with_context(|| format!("cannot create the folder {}", path.display()))
}

/// The key in a file; made when there is no such file.
fn kept(path: &Path) -> anyhow::Result<(Secret, bool)> {
    match fs::read_to_string(path) {
        Ok(text) if text.trim().len() >= 32 => {
            warn_if_exposed(path);
            return Ok((Secret(text.trim().into()), false));
        }
        Ok(_) => anyhow::bail!(
            "{} does not hold a key; remove it to have one generated",
            path.display()
        ),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
    let key = random_hex::<32>()?;
    // Written aside and linked into place: the link fails when a server that was
    // started at the same time was first, and a crash leaves no half key.
    let aside = path.with_extension(format!("{}.new", random_hex::<8>()?));
    let placed = write_private(&aside, &key).and_then(|()| fs::hard_link(&aside, path));
    // Best effort: a left-over is private, and no later start reads it.
    let _ = fs::remove_file(&aside);
    match placed {
        Ok(()) => Ok((Secret(key.into()), true)),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => kept(path),
        Err(error) => {
            Err(error).with_context(|| format!("cannot keep a key in {}", path.display()))
        }
    }
}

/// A copy or a restored backup may have lost the mode that the file was made
/// with. Not an error: on some volumes modes cannot be set at all.
fn warn_if_exposed(path: &Path) {
    #[cfg(unix)]
    if let Ok(metadata) = fs::metadata(path)
        && std::os::unix::fs::MetadataExt::mode(&metadata) & 0o077 != 0
    {
        tracing::warn!(
            "other users of this machine can read {}; its mode should be 600",
            path.display()
        );
    }
    #[cfg(not(unix))]
    let _ = path;
}

fn random_hex<const BYTES: usize>() -> anyhow::Result<String> {
    let mut bytes = [0; BYTES];
    getrandom::fill(&mut bytes).context("the system has no randomness to make a key from")?;
    Ok(hex::encode(bytes))
}

fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    writeln!(file, "{text}")?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_key_is_kept_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let (first, created) = api_key(None, dir.path()).unwrap();
        assert!(created && first.expose().len() == 64);
        let (second, created) = api_key(None, dir.path()).unwrap();
        assert!(!created && first.expose() == second.expose());
        assert_ne!(
            signing_key(None, dir.path()).unwrap().expose(),
            first.expose()
        );
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = fs::metadata(dir.path().join("secret"))
                .unwrap()
                .permissions()
                .mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        let names: Vec<_> = fs::read_dir(dir.path())
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        assert_eq!(names.len(), 2, "{names:?}");
    }

    #[test]
    fn the_admin_key_is_another_than_the_api_key() {
        let dir = tempfile::tempdir().unwrap();
        let api = Secret::from("sixteen characters".to_owned());
        let refused = |key: &Secret| {
            let error = admin_key(Some(key), &api, dir.path()).unwrap_err();
            error.to_string()
        };
        assert!(refused(&api).contains("must differ"));
        assert!(refused(&Secret::from("short".to_owned())).contains("at least 16"));
        assert!(kept_admin_key(dir.path()).is_none());
        let (made, created) = admin_key(None, &api, dir.path()).unwrap();
        assert!(created && made.expose().len() == 64);
        let found = kept_admin_key(dir.path()).unwrap();
        assert_eq!(found.expose(), made.expose());
        // The operator may have set the very key that was generated.
        assert!(admin_key(None, &made, dir.path()).is_err());
    }

    #[test]
    fn servers_that_start_together_agree_on_one_key() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        let keys: Vec<String> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| kept(&path).unwrap()))
                .collect();
            let keys = threads.into_iter().map(|thread| thread.join().unwrap());
            keys.map(|(key, _)| key.expose().to_owned()).collect()
        });
        assert!(keys.iter().all(|key| key == &keys[0]));
    }

    #[test]
    fn a_damaged_key_file_stops_the_start() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("secret"), "").unwrap();
        let error = api_key(None, dir.path()).unwrap_err().to_string();
        assert!(error.contains("remove it"), "{error}");
    }

    #[test]
    fn secrets_print_as_stars_and_compare_whole() {
        let secret = Secret::from("open sesame".to_owned());
        assert_eq!(format!("{secret:?}"), "***");
        assert!(secret.matches(b"open sesame"));
        assert!(
            !secret.matches(b"open sesam")
                && !secret.matches(b"")
                && !secret.matches(b"open sesame ")
        );
    }
}
