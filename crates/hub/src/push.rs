//! A folder into a repository.
use std::path::Path;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use hf_hub::HFClientSync;

use crate::{Error, Hub, Repository, Result};

/// Time that a push may take.
const LONGEST: Duration = Duration::from_secs(6 * 3600);

/// Who sees a repository that is created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visibility {
    /// Everybody.
    Public,
    /// Those whom the hub lets.
    Private,
}

impl Hub {
    /// Makes a commit of the files of a folder, in a repository of a model that is created if it is not there.
    ///
    /// # Errors
    /// [`Error::Usage`] without a token, [`Error::Unavailable`] with what the hub says.
    pub fn push(
        &self,
        repository: &Repository,
        folder: &Path,
        visibility: Visibility,
    ) -> Result<()> {
        self.reachable()?;
        let Some(token) = &self.token else {
            return Err(Error::Usage("a push needs a token: set HF_TOKEN".into()));
        };
        if !folder.join("model.safetensors").is_file() {
            let folder = folder.display();
            return Err(Error::Usage(format!(
                "{folder} is no exported model: no model.safetensors in it"
            )));
        }
        // The client waits for ever where a server is silent.
        let (send, receive) = std::sync::mpsc::channel();
        let (folder, repository) = (folder.to_owned(), repository.clone());
        let (endpoint, token) = (self.endpoint.clone(), token.clone());
        std::thread::spawn(move || {
            send.send(commit(&folder, &repository, visibility, endpoint, token))
        });
        let said = |why: String| Error::Unavailable(format!("{}: {why}", self.host()));
        let hours = LONGEST.as_secs() / 3600;
        match receive.recv_timeout(LONGEST) {
            Ok(done) => done.map_err(said),
            Err(RecvTimeoutError::Timeout) => Err(said(format!("no answer in {hours} hours"))),
            Err(RecvTimeoutError::Disconnected) => {
                Err(said("the client stopped, see above".into()))
            }
        }
    }
}

/// Creates the repository where it is not there, and makes the commit; else why not.
fn commit(
    folder: &Path,
    repository: &Repository,
    visibility: Visibility,
    endpoint: String,
    token: String,
) -> Result<(), String> {
    let refused = |error: hf_hub::HFError| error.to_string();
    let client = hf_hub::HFClient::builder().endpoint(endpoint).token(token).build();
    let client = HFClientSync::from_inner(client.map_err(refused)?).map_err(refused)?;
    client
        .create_repository()
        .repo_id(repository.name())
        .repo_type(hf_hub::RepoTypeModel)
        .private(visibility == Visibility::Private)
        .exist_ok(true)
        .send()
        .map_err(refused)?;
    let (owner, name) = repository.name().split_once('/').unwrap_or_default();
    client
        .model(owner, name)
        .upload_folder()
        .folder_path(folder.to_path_buf())
        .revision(repository.revision())
        .commit_message("A model trained with gumbel")
        .send()
        .map_err(refused)?;
    Ok(())
}
