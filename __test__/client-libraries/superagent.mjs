import superagent from "superagent";

export const name = "superagent";

export const asking =
  ({ url, timeoutMs }) =>
  ({ refresh }) =>
    superagent
      .post(url)
      .type("form")
      .timeout({ response: timeoutMs })
      .send({ grant_type: "refresh_token", refresh_token: refresh, client_id: "client" });
