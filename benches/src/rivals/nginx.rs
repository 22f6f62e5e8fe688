//! nginx, plain proxying, access log to a file.

use anyhow::Result;
use pomerium_testing::tools;
use tokio::process::Command;

use super::{Ground, Rival, port};

/// Starts it.
pub async fn start(ground: &Ground) -> Result<Rival> {
    let port = port()?;
    let folder = ground.path().join("nginx");
    std::fs::create_dir_all(&folder)?;
    let config = format!(
        "daemon off;\n\
         user root;\n\
         worker_processes 2;\n\
         pid {folder}/nginx.pid;\n\
         error_log {folder}/error.log;\n\
         events {{ worker_connections 1024; }}\n\
         http {{\n\
           access_log {folder}/access.log;\n\
           proxy_max_temp_file_size 0;\n\
           client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;\n\
           fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;\n\
           keepalive_requests 10000000;\n\
           upstream app {{ server 127.0.0.1:{upstream}; keepalive 64; keepalive_requests 10000000; }}\n\
           server {{\n\
             listen 127.0.0.1:{port} ssl http2 reuseport;\n\
             server_name app.example.com;\n\
             ssl_certificate {shared}/server.pem; ssl_certificate_key {shared}/server.key;\n\
             ssl_protocols TLSv1.2 TLSv1.3;\n\
             location / {{\n\
               proxy_pass http://app;\n\
               proxy_http_version 1.1;\n\
               proxy_set_header Connection \"\";\n\
               proxy_set_header Host $host;\n\
               proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;\n\
               proxy_set_header X-Forwarded-Proto $scheme;\n\
             }}\n\
           }}\n\
         }}\n",
        folder = folder.display(),
        shared = ground.path().display(),
        upstream = ground.upstream,
        port = port.number(),
    );
    let file = folder.join("nginx.conf");
    // Only root has workers of another user, and only root may say so.
    let config = if nobody() {
        config.replace("user root;\n", "")
    } else {
        config
    };
    std::fs::write(&file, config)?;
    let mut command = Command::new(tools::find("nginx")?);
    command
        .arg("-e")
        .arg(folder.join("error.log"))
        .arg("-p")
        .arg(&folder)
        .arg("-c")
        .arg(&file);
    ground.run("nginx", port, command).await
}

fn nobody() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) != 0)
}
