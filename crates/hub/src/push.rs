//! A folder into a repository.
use std::path::Path;

use hf_hub::HFClientSync;

use crate::{Error, Hub, Repository, Result};

impl Hub {
    /// Makes a commit of the files of a folder, in a repository of a model that is created if it is not there.
    ///
    /// # Errors
    /// [`Error::Usage`] without a token, [`Error::Unavailable`] with what the hub says.
    pub fn push(&self, folder: &Path, repository: &Repository, private: bool) -> Result<()> {
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
        let refused =
            |error: hf_hub::HFError| Error::Unavailable(format!("{}: {error}", self.host()));
        let client = HFClientSync::from_api(
            hf_hub::HFClient::builder()
                .endpoint(self.endpoint.clone())
                .token(token.clone())
                .build()
                .map_err(refused)?,
        )
        .map_err(refused)?;
        client
            .create_repository()
            .repo_id(repository.name())
            .repo_type(hf_hub::RepoTypeModel)
            .private(private)
            .exist_ok(true)
            .send()
            .map_err(refused)?;
        let (owner, name) = repository.name().split_once('/').unwrap_or_default();
        let there = client.model(owner, name);
        there
            .upload_folder()
            .folder_path(folder.to_path_buf())
            .revision(repository.revision())
            .commit_message("A model trained with gumbel")
            .send()
            .map_err(refused)?;
        Ok(())
    }
}
